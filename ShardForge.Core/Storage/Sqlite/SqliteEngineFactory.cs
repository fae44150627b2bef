namespace ShardForge.Storage.Sqlite;

/// <summary>Opens <see cref="SqliteEngine"/>s.</summary>
internal sealed class SqliteEngineFactory : IStorageEngineFactory
{
    private const int PageCacheBytesMin = 64 * 1024, ReadersMin = 4, DatabaseBytesMin = 64 * 1024;
    private readonly SqliteOptions _options;

    public SqliteEngineFactory(SqliteOptions options)
    {
        Require(nameof(SqliteOptions.PageCacheBytes), options.PageCacheBytes, PageCacheBytesMin);
        Require(nameof(SqliteOptions.ReadersMax), options.ReadersMax, ReadersMin);
        Require(nameof(SqliteOptions.VerifyOnOpenBytesMax), options.VerifyOnOpenBytesMax, 0);
        Require(nameof(SqliteOptions.DatabaseBytesMax), options.DatabaseBytesMax, DatabaseBytesMin);
        _options = options;
    }

    public string Name => SqliteEngine.EngineName;

    public ValueTask<IStorageEngine> OpenAsync(string? directory, CancellationToken cancellationToken = default) =>
        OpenAsync(new StorageEngineContext { Directory = directory, Name = directory is null ? Name : Path.GetFileName(directory) }, cancellationToken);

    public ValueTask<IStorageEngine> OpenAsync(StorageEngineContext context, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(context);
        cancellationToken.ThrowIfCancellationRequested();
        return new(SqliteEngine.Open(context, _options, cancellationToken));
    }

    private static void Require(string setting, long value, long minimum)
    {
        if (value < minimum)
            throw new ConfigurationException(setting, $"{setting} is {value:N0}; it must be {minimum:N0} or more.");
    }
}
