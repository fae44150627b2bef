namespace ShardForge.Common;

/// <summary>A handle of <see cref="InMemoryFileSystem"/>.</summary>
internal sealed class InMemoryFile(string path, InMemoryContent content, bool writable) : IFile
{
    private volatile bool _disposed;

    public string Path => path;

    public long Length => Content.Length;

    private InMemoryContent Content
    {
        get
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return content;
        }
    }

    private InMemoryContent WritableContent => writable ? Content : throw new UnauthorizedAccessException($"{path} is open for reading only.");

    public int Read(Span<byte> buffer, long offset) => Content.Read(buffer, offset);

    public void Write(ReadOnlySpan<byte> bytes, long offset) => WritableContent.Write(path, bytes, offset);

    public void SetLength(long bytes) => WritableContent.SetLength(path, bytes);

    public void Preallocate(long bytes) => WritableContent.Preallocate(path, bytes);

    public void Flush() => _ = Content;

    public IMappedRegion Map(long bytes) => WritableContent.Map(path, bytes);

    public void Dispose() => _disposed = true;
}
