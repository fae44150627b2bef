using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ShardForge.Common;

/// <summary>The real files: thin over <see cref="RandomAccess"/>.</summary>
internal sealed partial class PhysicalFileSystem : IFileSystem
{
    private PhysicalFileSystem() { }

    public static PhysicalFileSystem Instance { get; } = new();

    public IFile Open(string path, FileOpenMode mode)
    {
        (FileMode fileMode, FileAccess access) = mode switch
        {
            FileOpenMode.Read => (FileMode.Open, FileAccess.Read),
            FileOpenMode.ReadWrite => (FileMode.Open, FileAccess.ReadWrite),
            FileOpenMode.CreateNew => (FileMode.CreateNew, FileAccess.ReadWrite),
            FileOpenMode.CreateOrTruncate => (FileMode.Create, FileAccess.ReadWrite),
            _ => throw new ArgumentOutOfRangeException(nameof(mode), mode, null),
        };
        return new PhysicalFile(path, File.OpenHandle(path, fileMode, access, FileShare.ReadWrite | FileShare.Delete));
    }

    public bool FileExists(string path) => File.Exists(path);

    public bool DirectoryExists(string path) => Directory.Exists(path);

    public void CreateDirectory(string path) => Directory.CreateDirectory(path);

    public IReadOnlyList<string> ListFiles(string path) => Directory.Exists(path) ? Directory.GetFiles(path) : [];

    public IReadOnlyList<string> ListDirectories(string path) => Directory.Exists(path) ? Directory.GetDirectories(path) : [];

    public void Rename(string path, string newPath) => File.Move(path, newPath, overwrite: true);

    public void RenameDirectory(string path, string newPath) => Directory.Move(path, newPath);

    public void HardLink(string path, string newPath)
    {
        if (OperatingSystem.IsWindows())
        {
            if (!Native.CreateHardLink(newPath, path, 0))
                throw new IOException($"Cannot link {path} to {newPath}: error {Marshal.GetLastPInvokeError()}.");
        }
        else if (Native.Link(path, newPath) != 0)
        {
            throw new IOException($"Cannot link {path} to {newPath}: {Marshal.GetLastPInvokeErrorMessage()}.");
        }
    }

    public void Delete(string path)
    {
        if (File.Exists(path))
            File.Delete(path);
    }

    public void DeleteDirectory(string path)
    {
        if (Directory.Exists(path))
            Directory.Delete(path, recursive: true);
    }

    public void FlushDirectory(string path)
    {
        // Windows makes names durable with the file's own flush and has no call for directories.
        if (OperatingSystem.IsWindows())
            return;
        using SafeFileHandle directory = Native.OpenDirectory(path);
        Native.Flush(directory, path);
    }

    public IDisposable? TryLock(string path)
    {
        try
        {
            return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0, FileOptions.None);
        }
        catch (IOException error) when (error is not (DirectoryNotFoundException or PathTooLongException or DriveNotFoundException))
        {
            return null;
        }
    }

    public long GetFreeBytes(string path) => new DriveInfo(System.IO.Path.GetFullPath(path)).AvailableFreeSpace;

    private sealed class PhysicalFile(string path, SafeFileHandle handle) : IFile
    {
        private readonly Lock _gate = new();
        private readonly List<PhysicalRegion> _regions = [];

        public string Path => path;

        public long Length => RandomAccess.GetLength(handle);

        public int Read(Span<byte> buffer, long offset)
        {
            int total = 0;
            while (total < buffer.Length)
            {
                int read = RandomAccess.Read(handle, buffer[total..], offset + total);
                if (read == 0)
                    break;
                total += read;
            }

            return total;
        }

        public void Write(ReadOnlySpan<byte> bytes, long offset) => RandomAccess.Write(handle, bytes, offset);

        public void SetLength(long bytes) => RandomAccess.SetLength(handle, bytes);

        public void Preallocate(long bytes)
        {
            // Zeros are written, not only reserved: a flush into written blocks changes no file-system metadata and costs two thirds.
            // In small pieces: the kernel keeps what one call wrote as one unit of its cache; it counts all of a unit as written for each byte that is changed in
            // it, and a store into a map makes all of it dirty (4 KiB: a flush of 80 us; 16 KiB: 120; 256 KiB: 500).
            byte[] zeros = new byte[4 * 1024];
            for (long offset = Length; offset < bytes; offset += zeros.Length)
                RandomAccess.Write(handle, zeros.AsSpan(0, (int)Math.Min(zeros.Length, bytes - offset)), offset);
        }

        public void Flush()
        {
            // On Linux a flush of the file covers its maps; elsewhere they have one of their own, and it comes first.
            if (!OperatingSystem.IsLinux())
            {
                lock (_gate)
                    _regions.ForEach(static region => region.Flush());
            }

            Native.Flush(handle, path);
        }

        public IMappedRegion Map(long bytes)
        {
            PhysicalRegion region = new(this, path, handle, bytes);
            lock (_gate)
                _regions.Add(region);
            return region;
        }

        public void Forget(PhysicalRegion region)
        {
            lock (_gate)
                _regions.Remove(region);
        }

        public void Dispose() => handle.Dispose();
    }

    /// <summary>A map by the system's own call: the framework's flushes to the disk whenever one is closed. On Windows, where there is another call, that is what there is.</summary>
    private sealed unsafe class PhysicalRegion : IMappedRegion
    {
        private readonly PhysicalFile _file;
        private readonly MemoryMappedFile? _map;
        private readonly MemoryMappedViewAccessor? _view;

        public PhysicalRegion(PhysicalFile file, string path, SafeFileHandle handle, long bytes)
        {
            _file = file;
            Length = bytes;
            if (RandomAccess.GetLength(handle) < bytes)
                throw new IOException($"Cannot map {bytes:N0} bytes of {path}: it has {RandomAccess.GetLength(handle):N0}.");
            if (!OperatingSystem.IsWindows())
            {
                Address = Native.Map(handle, path, bytes);
                return;
            }

            _map = MemoryMappedFile.CreateFromFile(handle, mapName: null, capacity: 0, MemoryMappedFileAccess.ReadWrite, HandleInheritability.None, leaveOpen: true);
            _view = _map.CreateViewAccessor(0, bytes, MemoryMappedFileAccess.ReadWrite);
            byte* address = null;
            _view.SafeMemoryMappedViewHandle.AcquirePointer(ref address);
            Address = (nint)address;
        }

        // Whoever forgets a map keeps the address space, not more: the bytes are the file's.
        ~PhysicalRegion() => Unmap();

        public nint Address { get; private set; }

        public long Length { get; }

        public void Flush()
        {
            if (_view is not null)
                _view.Flush();
            else
                Native.FlushMap(Address, Length, _file.Path);
        }

        public void Dispose()
        {
            if (Address == 0)
                return;

            // What is unmapped must still be covered by a later flush of the file; only Linux promises that.
            if (!OperatingSystem.IsLinux())
                Flush();
            _file.Forget(this);
            Unmap();
            GC.SuppressFinalize(this);
        }

        private void Unmap()
        {
            nint address = Address;
            Address = 0;
            if (address == 0)
                return;
            if (_view is null)
            {
                Native.Unmap(address, Length);
                return;
            }

            _view.SafeMemoryMappedViewHandle.ReleasePointer();
            _view.Dispose();
            _map!.Dispose();
        }
    }

    private static partial class Native
    {
        private const int DirectoryReadOnly = 0;    // O_RDONLY, the same on every Unix
        private const int ReadAndWrite = 3, Shared = 1;    // PROT_READ | PROT_WRITE, MAP_SHARED: the same on every Unix
        private const int LinuxSync = 4, OtherSync = 0x10;    // MS_SYNC

        [LibraryImport("libc", EntryPoint = "link", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
        public static partial int Link(string path, string newPath);

        [LibraryImport("kernel32", EntryPoint = "CreateHardLinkW", SetLastError = true, StringMarshalling = StringMarshalling.Utf16)]
        [return: MarshalAs(UnmanagedType.Bool)]
        public static partial bool CreateHardLink(string newPath, string path, nint securityAttributes);

        [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
        private static partial int OpenFile(string path, int flags);

        [LibraryImport("libc", EntryPoint = "fdatasync", SetLastError = true)]
        private static partial int DataSync(SafeFileHandle file);

        [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
        private static partial nint Map(nint address, nuint bytes, int protection, int flags, SafeFileHandle file, long offset);

        [LibraryImport("libc", EntryPoint = "munmap")]
        private static partial int Unmap(nint address, nuint bytes);

        [LibraryImport("libc", EntryPoint = "msync", SetLastError = true)]
        private static partial int SyncMap(nint address, nuint bytes, int flags);

        public static nint Map(SafeFileHandle file, string path, long bytes)
        {
            nint address = Map(0, (nuint)bytes, ReadAndWrite, Shared, file, 0);
            if (address == -1)
                throw new IOException($"Cannot map {bytes:N0} bytes of {path}: {Marshal.GetLastPInvokeErrorMessage()}.");
            return address;
        }

        // It fails for addresses that are no map, and these are.
        public static void Unmap(nint address, long bytes) => _ = Unmap(address, (nuint)bytes);

        public static void FlushMap(nint address, long bytes, string path)
        {
            if (SyncMap(address, (nuint)bytes, OperatingSystem.IsLinux() ? LinuxSync : OtherSync) != 0)
                throw new IOException($"Flush of a map of {path} failed: {Marshal.GetLastPInvokeErrorMessage()}.");
        }

        public static SafeFileHandle OpenDirectory(string path)
        {
            int descriptor = OpenFile(path, DirectoryReadOnly);
            if (descriptor < 0)
                throw new IOException($"Cannot open the directory {path}: {Marshal.GetLastPInvokeErrorMessage()}.");
            return new SafeFileHandle(descriptor, ownsHandle: true);
        }

        public static void Flush(SafeFileHandle file, string path)
        {
            // fdatasync carries the length with it, and skips times; RandomAccess.FlushToDisk is fsync and swallows some errors.
            if (OperatingSystem.IsLinux())
            {
                if (DataSync(file) != 0)
                    throw new IOException($"Flush of {path} failed: {Marshal.GetLastPInvokeErrorMessage()}.");
            }
            else
            {
                RandomAccess.FlushToDisk(file);
            }
        }

    }
}
