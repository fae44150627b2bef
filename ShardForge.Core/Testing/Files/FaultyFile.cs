using ShardForge.Common;

namespace ShardForge.Testing;

/// <summary>A handle of <see cref="FaultyFileSystem"/>; dead after a power cut.</summary>
/// <param name="owner">Counts and fails operations.</param>
/// <param name="path">The path it was opened by.</param>
/// <param name="life">Which stretch between power cuts it belongs to.</param>
/// <param name="content">What is unflushed; null: the file was opened for reading, and nobody writes it.</param>
/// <param name="reader">Where a read-only handle reads; null for others.</param>
internal sealed class FaultyFile(FaultyFileSystem owner, string path, int life, FaultyContent? content, IFile? reader) : IFile
{
    private bool _disposed;

    public string Path => path;

    public long Length
    {
        get
        {
            Check(FileOperationKind.Look, out _);
            return Reader.Length;
        }
    }

    private IFile Reader => reader ?? content!.File;

    private FaultyContent Writable => reader is null ? content! : throw new UnauthorizedAccessException($"{path} is open for reading only.");

    public int Read(Span<byte> buffer, long offset)
    {
        Check(FileOperationKind.Read, out _, offset, buffer.Length);
        return Reader.Read(buffer, offset);
    }

    public void Write(ReadOnlySpan<byte> bytes, long offset)
    {
        Check(FileOperationKind.Write, out Exception? error, offset, bytes.Length);
        Writable.Write(error is null ? bytes : bytes[..(bytes.Length / 2)], offset);
        if (error is not null)
            throw error;
    }

    public void SetLength(long bytes)
    {
        Check(FileOperationKind.Resize, out _, bytes);
        Writable.SetLength(bytes);
    }

    public void Preallocate(long bytes)
    {
        Check(FileOperationKind.Resize, out _, bytes);
        Writable.Preallocate(bytes);
    }

    public void Flush()
    {
        Check(FileOperationKind.Flush, out Exception? error);
        if (error is not null)
        {
            if (!owner.IsPowerOff)
                Writable.LoseUnflushed();
            throw error;
        }

        Writable.Flush();
    }

    public IMappedRegion Map(long bytes)
    {
        Check(FileOperationKind.Map, out _, bytes);
        return Writable.Map(bytes);
    }

    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        reader?.Dispose();
        if (content is not null)
            owner.CloseHandle(life, content);
    }

    private void Check(FileOperationKind kind, out Exception? error, long offset = 0, int bytes = 0)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        owner.Check(kind, path, out error, newPath: null, offset, bytes);
        owner.CheckLife(life);
    }
}
