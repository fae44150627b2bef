namespace ShardForge.Storage.Memory;

/// <summary>Opens <see cref="MemoryEngine"/>s.</summary>
internal sealed class MemoryEngineFactory : IStorageEngineFactory
{
    private readonly MemoryOptions _options;

    public MemoryEngineFactory(MemoryOptions options)
    {
        if (options.RedoLogBytesMax <= 0)
            throw new ConfigurationException(nameof(MemoryOptions.RedoLogBytesMax), $"{nameof(MemoryOptions.RedoLogBytesMax)} is {options.RedoLogBytesMax:N0}; it must be above 0.");
        _options = options;
    }

    public string Name => MemoryEngine.EngineName;

    public ValueTask<IStorageEngine> OpenAsync(string? directory, CancellationToken cancellationToken = default) =>
        OpenAsync(new StorageEngineContext { Directory = directory, Name = directory is null ? Name : Path.GetFileName(directory) }, cancellationToken);

    public ValueTask<IStorageEngine> OpenAsync(StorageEngineContext context, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(context);
        cancellationToken.ThrowIfCancellationRequested();
        return new(MemoryEngine.Open(context, _options, cancellationToken));
    }
}
