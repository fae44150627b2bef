using ShardForge.Common;

namespace ShardForge.Testing;

/// <summary>A file system that remembers what was not flushed, and can lose, tear, reorder, fail, fill up and slow down.</summary>
/// <remarks>
/// It lies over another file system (by default one in memory) and keeps, until the next flush, what a power cut would bring back: for file
/// bytes the durable content of each block written since (<see cref="FaultyContent"/>), for names the list of changes since the directory's
/// flush (<see cref="NameJournal"/>). Without a power cut it costs one read per block overwritten and nothing for bytes appended.
/// <para><see cref="PowerCut"/> rewrites the files to one of the states that a disk may legally be in: every 512-byte sector that was not
/// flushed is independently kept, lost or torn, lengths likewise; changes of names are kept up to a point or one by one, as file systems with
/// and without a common journal do. The same seed gives the same choice. Handles, maps and locks from before the cut are dead.</para>
/// <para>Lock order: names, then one content. <see cref="BeforeOperation"/> runs outside both and may block, to slow things down, or throw.</para>
/// </remarks>
public sealed class FaultyFileSystem : IFileSystem
{
    private readonly IFileSystem _inner;
    private readonly Lock _gate = new();
    private readonly NameJournal _journal;
    private readonly Dictionary<string, FaultyContent> _contents = new(StringComparer.Ordinal);
    private readonly Dictionary<string, IDisposable> _locks = new(StringComparer.Ordinal);
    private readonly bool _flushInner;
    private readonly List<string> _log = [];
    private long _operationCount, _failAt;
    private FileFault _fault;
    private Func<FileOperation, bool>? _failWhen;
    private volatile bool _powerIsOff;
    private int _life;

    /// <summary>Lies over files in memory.</summary>
    public FaultyFileSystem() : this(new InMemoryFileSystem(), System.IO.Path.GetFullPath("/.lost"), flushInner: false) { }

    /// <summary>Lies over other files, real ones for instance.</summary>
    /// <param name="inner">Where the files are. Nobody else changes them meanwhile.</param>
    /// <param name="lostDirectory">A directory of its own on the same volume, for files that are deleted and not yet durably so; created when needed.</param>
    /// <param name="flushInner">Whether a flush reaches the disk. A power cut that is only played does not need it, and tests are much faster without.</param>
    public FaultyFileSystem(IFileSystem inner, string lostDirectory, bool flushInner)
    {
        _inner = inner;
        _flushInner = flushInner;
        _journal = new NameJournal(inner, InMemoryFileSystem.FullPath(lostDirectory), OnMoved, OnPurged);
    }

    /// <summary>Called before each operation, outside all locks; what it throws is thrown instead of the operation. Blocking in it slows the operation down.</summary>
    public Action<FileOperation>? BeforeOperation { get; set; }

    /// <summary>Operations so far.</summary>
    public long OperationCount => Interlocked.Read(ref _operationCount);

    /// <summary>Whether operations that change something are kept as lines for <see cref="TakeLog"/>.</summary>
    public bool KeepsLog { get; set; }

    /// <summary>Space that the files may take together; only for files in memory.</summary>
    public long CapacityBytes
    {
        get => _inner is InMemoryFileSystem memory ? memory.CapacityBytes : long.MaxValue;
        set => (_inner as InMemoryFileSystem ?? throw new NotSupportedException("Only files in memory can be given a capacity.")).CapacityBytes = value;
    }

    /// <summary>The <paramref name="n"/>-th operation from now (1: the next) fails, once; with <see cref="FileFault.PowerOff"/> all later ones too.</summary>
    public void FailAt(long n, FileFault fault = FileFault.Error)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(n, 1);
        lock (_gate)
        {
            _failWhen = null;
            _fault = fault;
            _failAt = OperationCount + n;
        }
    }

    /// <summary>The first operation that fits fails, once; with <see cref="FileFault.PowerOff"/> all later ones too.</summary>
    public void FailWhen(Func<FileOperation, bool> fits, FileFault fault = FileFault.Error)
    {
        lock (_gate)
        {
            _failWhen = fits;
            _fault = fault;
            _failAt = 0;
        }
    }

    /// <summary>No failure is planned any more.</summary>
    public void FailNothing()
    {
        lock (_gate)
        {
            _failWhen = null;
            _failAt = 0;
        }
    }

    /// <summary>Lines since the last call, in order.</summary>
    public IReadOnlyList<string> TakeLog()
    {
        lock (_log)
        {
            string[] lines = [.. _log];
            _log.Clear();
            return lines;
        }
    }

    /// <summary>The power goes: from now on every operation throws <see cref="IOException"/>, until <see cref="PowerOn"/>.</summary>
    public void PowerOff() => _powerIsOff = true;

    /// <summary>The power is back: what was not flushed is kept, lost or torn, by seed. Handles from before are dead.</summary>
    public void PowerOn(int seed)
    {
        _powerIsOff = true;
        lock (_gate)
        {
            _life++;
            foreach (IDisposable held in _locks.Values)
                held.Dispose();
            _locks.Clear();
#pragma warning disable CA5394 // A seed that can be repeated is the point.
            Random random = new(seed);
#pragma warning restore CA5394
            HashSet<FaultyContent> contents = [.. _contents.Values];
            // Bytes first: a content that is open stays reachable by its handle whatever happens to its names.
            foreach (FaultyContent content in contents.OrderBy(static content => content.Order))
                content.CutPower(random);
            _journal.CutPower(random);
            foreach (FaultyContent content in contents.Where(static content => content.IsMapped && content.Names.Count > 0))
                Detach(content);
            foreach (FaultyContent content in contents)
                content.Close();
            _contents.Clear();
            _failWhen = null;
            _failAt = 0;
            _powerIsOff = false;
        }
    }

    /// <summary><see cref="PowerOff"/> and <see cref="PowerOn"/>.</summary>
    public void PowerCut(int seed) => PowerOn(seed);

    /// <summary>The process ends, as by kill -9: handles and locks from before are dead, what was written stays, flushed or not.</summary>
    public void EndProcess()
    {
        _powerIsOff = true;
        lock (_gate)
        {
            _life++;
            foreach (IDisposable held in _locks.Values)
                held.Dispose();
            _locks.Clear();
            foreach (FaultyContent content in _contents.Values.ToHashSet())
            {
                content.HandleCount = 0;
                DropIfDoneLocked(content);
            }

            _powerIsOff = false;
        }
    }

    /// <inheritdoc/>
    public IFile Open(string path, FileOpenMode mode)
    {
        int life = _life;
        Check(FileOperationKind.Open, path, out _);
        string full = InMemoryFileSystem.FullPath(path);
        lock (_gate)
        {
            CheckLife(life);
            bool exists = _inner.FileExists(full);
            if (mode == FileOpenMode.Read && !_contents.ContainsKey(full))
                return new FaultyFile(this, path, life, content: null, _inner.Open(full, mode));
            if (!_contents.TryGetValue(full, out FaultyContent? content))
            {
                IFile file = _inner.Open(full, mode == FileOpenMode.CreateOrTruncate && exists ? FileOpenMode.ReadWrite : mode);
                content = new FaultyContent(file, exists, _operationCount, _flushInner);
                content.Names.Add(full);
                _contents.Add(full, content);
                if (!exists)
                    _journal.Created(full);
            }
            else if (mode == FileOpenMode.CreateNew)
            {
                throw new IOException($"Cannot create {path}: it is there already.");
            }

            content.HandleCount++;
            if (mode == FileOpenMode.CreateOrTruncate)
                content.SetLength(0);
            return new FaultyFile(this, path, life, content, mode == FileOpenMode.Read ? _inner.Open(full, mode) : null);
        }
    }

    /// <inheritdoc/>
    public bool FileExists(string path)
    {
        Check(FileOperationKind.Look, path, out _);
        return _inner.FileExists(path);
    }

    /// <inheritdoc/>
    public bool DirectoryExists(string path)
    {
        Check(FileOperationKind.Look, path, out _);
        return _inner.DirectoryExists(path);
    }

    /// <inheritdoc/>
    public void CreateDirectory(string path)
    {
        Check(FileOperationKind.CreateDirectory, path, out _);
        lock (_gate)
            _journal.CreateDirectory(InMemoryFileSystem.FullPath(path));
    }

    /// <inheritdoc/>
    public IReadOnlyList<string> ListFiles(string path)
    {
        Check(FileOperationKind.Look, path, out _);
        return _inner.ListFiles(path);
    }

    /// <inheritdoc/>
    public IReadOnlyList<string> ListDirectories(string path)
    {
        Check(FileOperationKind.Look, path, out _);
        return [.. _inner.ListDirectories(path).Where(directory => InMemoryFileSystem.FullPath(directory) != _journal.LostDirectory)];
    }

    /// <inheritdoc/>
    public void Rename(string path, string newPath)
    {
        Check(FileOperationKind.Rename, path, out _, newPath);
        lock (_gate)
            _journal.Rename(InMemoryFileSystem.FullPath(path), InMemoryFileSystem.FullPath(newPath));
    }

    /// <inheritdoc/>
    public void RenameDirectory(string path, string newPath)
    {
        Check(FileOperationKind.Rename, path, out _, newPath);
        lock (_gate)
            _journal.RenameDirectory(InMemoryFileSystem.FullPath(path), InMemoryFileSystem.FullPath(newPath));
    }

    /// <inheritdoc/>
    public void HardLink(string path, string newPath)
    {
        Check(FileOperationKind.Link, path, out _, newPath);
        lock (_gate)
            _journal.Link(InMemoryFileSystem.FullPath(path), InMemoryFileSystem.FullPath(newPath));
    }

    /// <inheritdoc/>
    public void Delete(string path)
    {
        Check(FileOperationKind.Delete, path, out _);
        lock (_gate)
            _journal.Delete(InMemoryFileSystem.FullPath(path));
    }

    /// <inheritdoc/>
    public void DeleteDirectory(string path)
    {
        Check(FileOperationKind.Delete, path, out _);
        lock (_gate)
            _journal.DeleteDirectory(InMemoryFileSystem.FullPath(path));
    }

    /// <inheritdoc/>
    public void FlushDirectory(string path)
    {
        Check(FileOperationKind.FlushDirectory, path, out _);
        lock (_gate)
        {
            if (_flushInner)
                _inner.FlushDirectory(path);
            else if (!_inner.DirectoryExists(path))
                throw new DirectoryNotFoundException($"Cannot flush {path}: there is no such directory.");
            _journal.Flush(InMemoryFileSystem.FullPath(path));
        }
    }

    /// <inheritdoc/>
    public IDisposable? TryLock(string path)
    {
        Check(FileOperationKind.Look, path, out _);
        string full = InMemoryFileSystem.FullPath(path);
        lock (_gate)
        {
            if (_locks.ContainsKey(full) || _inner.TryLock(full) is not { } held)
                return null;
            _locks.Add(full, held);
            return new HeldLock(this, full, held);
        }
    }

    /// <inheritdoc/>
    public long GetFreeBytes(string path)
    {
        Check(FileOperationKind.Look, path, out _);
        return _inner.GetFreeBytes(path);
    }

    /// <summary>Counts the operation and fails it if that is planned. A fault to be carried out by the caller (half a write, a lost flush) comes back instead.</summary>
    internal void Check(FileOperationKind kind, string path, out Exception? partial, string? newPath = null, long offset = 0, int bytes = 0)
    {
        partial = null;
        FileOperation operation = new(Interlocked.Increment(ref _operationCount), kind, path, newPath, offset, bytes);
        if (_powerIsOff)
            throw PowerIsOff(path);
        BeforeOperation?.Invoke(operation);
        bool fails = false;
        FileFault fault;
        lock (_gate)
        {
            fault = _fault;
            if (_failAt == operation.Number || _failWhen?.Invoke(operation) == true)
            {
                fails = true;
                _failAt = 0;
                _failWhen = null;
                _powerIsOff |= fault == FileFault.PowerOff;
            }
        }

        if (KeepsLog && kind is not (FileOperationKind.Look or FileOperationKind.Read))
        {
            lock (_log)
                _log.Add(operation + (fails ? " fails" : ""));
        }

        if (!fails)
            return;
        Exception error = fault switch
        {
            FileFault.Denied => new UnauthorizedAccessException($"{operation} is denied (planned)."),
            FileFault.DiskFull => DiskErrors.DiskFull(path, bytes, 0),
            FileFault.PowerOff => PowerIsOff(path),
            _ => new IOException($"{operation} fails (planned)."),
        };
        if (kind is not (FileOperationKind.Write or FileOperationKind.Flush))
            throw error;
        partial = error;
    }

    internal bool IsPowerOff => _powerIsOff;

    /// <summary>Files and changes of names that a power cut would touch.</summary>
    internal int RememberedCount
    {
        get
        {
            lock (_gate)
                return _contents.Count + _journal.Count;
        }
    }

    internal void CheckLife(int life)
    {
        if (life != _life)
            throw new IOException("This handle is from before the power cut.");
    }

    internal void CloseHandle(int life, FaultyContent content)
    {
        lock (_gate)
        {
            if (life != _life)
                return;
            content.HandleCount--;
            DropIfDoneLocked(content);
        }
    }

    // Whoever still has a map of the file from before the cut must not reach what is there after it: the names get a copy.
    private void Detach(FaultyContent content)
    {
        byte[] bytes = new byte[content.File.Length];
        content.File.Read(bytes, 0);
        string? copy = null;
        foreach (string name in content.Names)
        {
            _inner.Delete(name);
            if (copy is not null)
            {
                _inner.HardLink(copy, name);
                continue;
            }

            using IFile file = _inner.Open(name, FileOpenMode.CreateNew);
            file.Write(bytes, 0);
            copy = name;
        }
    }

    private static IOException PowerIsOff(string path) => new($"The power is off ({path}).");

    private void DropIfDoneLocked(FaultyContent content)
    {
        if (content.HandleCount > 0 || (content.HasUnflushed && content.Names.Count > 0))
            return;
        foreach (string name in content.Names)
            _contents.Remove(name);
        content.Close();
    }

    // A name of a content came, moved or went, by the journal.
    private void OnMoved(string? from, string? to, string? linkOf)
    {
        FaultyContent? content;
        if (linkOf is not null)
        {
            _contents.TryGetValue(linkOf, out content);
        }
        else if (from is not null && _contents.Remove(from, out content))
        {
            content.Names.Remove(from);
        }
        else
        {
            content = null;
        }

        // Also where the file that takes the name has nothing unflushed: the one that had it must not be found under it any more.
        if (to is not null && _contents.Remove(to, out FaultyContent? replaced) && !ReferenceEquals(replaced, content))
        {
            replaced.Names.Remove(to);
            DropIfDoneLocked(replaced);
        }

        if (to is not null && content is not null)
        {
            content.Names.Add(to);
            _contents[to] = content;
        }
        else if (content is not null)
        {
            DropIfDoneLocked(content);
        }
    }

    // A directory and all below it has moved (to) or gone for good (null).
    private void OnPurged(string directory, string? to)
    {
        foreach (string path in _contents.Keys.Where(path => InMemoryFileSystem.IsInside(path, directory)).ToArray())
            OnMoved(path, to is null ? null : to + path[directory.Length..], linkOf: null);
    }

    private sealed class HeldLock(FaultyFileSystem owner, string path, IDisposable held) : IDisposable
    {
        public void Dispose()
        {
            lock (owner._gate)
            {
                if (!owner._locks.TryGetValue(path, out IDisposable? current) || !ReferenceEquals(current, held))
                    return;
                owner._locks.Remove(path);
                held.Dispose();
            }
        }
    }
}
