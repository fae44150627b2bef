using System.IO.Hashing;
using System.Text;
using ShardForge.Common;
using ShardForge.Storage.Lsm;
using ShardForge.Storage.Lsm.Table;
using ShardForge.Storage.Lsm.TimeToLive;

namespace ShardForge.Storage;

/// <summary>Writes a sorted table outside of an engine, to be taken in as a whole with <see cref="ILsmEngine.IngestAsync"/>.</summary>
/// <remarks>Keys in ascending order, each once. One thread. A table that is not finished is removed by dispose.</remarks>
public sealed class LsmTableWriter : IDisposable
{
    private readonly IFileSystem _fileSystem;
    private readonly IFile _file;
    private readonly TableWriter _writer;
    private readonly ExpiryClock? _expiry;
    private byte[] _stored = [];
    private bool _finished, _disposed;

    /// <summary>Creates the file.</summary>
    /// <param name="path">A new file; best on the volume of the engine, which then takes it in by a hard link.</param>
    /// <param name="options">As of the engine: block size, compression, filter bits and time to live count; null: the defaults.</param>
    /// <param name="fileSystem">Null: the real one.</param>
    /// <param name="versionSuffixBytes">As <see cref="StorageEngineContext.VersionSuffixBytes"/> of the engine; 0 for one that is opened by its directory.</param>
    /// <param name="timeProvider">From when values live, where the options say how long; null: the system's.</param>
    /// <exception cref="IOException">The file exists already, or cannot be created.</exception>
    public LsmTableWriter(string path, LsmOptions? options = null, IFileSystem? fileSystem = null, int versionSuffixBytes = 0, TimeProvider? timeProvider = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentOutOfRangeException.ThrowIfNegative(versionSuffixBytes);
        LsmOptions chosen = options ?? new LsmOptions();
        chosen.Validate();
        _fileSystem = fileSystem ?? PhysicalFileSystem.Instance;
        _file = _fileSystem.Open(path, FileOpenMode.CreateNew);

        // The id seeds the checksums of the blocks, and says that it is no number of an engine's file.
        ulong tableId = LsmFiles.ExternalTableId(XxHash3.HashToUInt64(Encoding.UTF8.GetBytes(path)), chosen.TimeToLive is not null);
        _expiry = chosen.TimeToLive is { } timeToLive ? new ExpiryClock(timeProvider ?? TimeProvider.System, timeToLive) : null;
        _writer = new TableWriter(_file, tableId, chosen, versionSuffixBytes, static _ => { });
    }

    /// <summary>How many entries it has.</summary>
    public long Count => _writer.Entries;

    /// <summary>About how long the file would be if it were finished now.</summary>
    public long EstimatedBytes => _writer.EstimatedBytes;

    /// <summary>Adds a value.</summary>
    /// <exception cref="ArgumentException">The key is not above the one before; nothing was added.</exception>
    public void Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        StorageArguments.CheckValue(value.Length);
        if (_expiry is not null)
        {
            int bytes = ExpiryClock.HeaderBytes + value.Length;
            if (_stored.Length < bytes)
                _stored = new byte[Math.Max(bytes, 2 * _stored.Length)];
            _expiry.WriteExpiry(_stored);
            value.CopyTo(_stored.AsSpan(ExpiryClock.HeaderBytes));
            value = _stored.AsSpan(0, bytes);
        }

        Add(key, EntryKind.Put, value);
    }

    /// <summary>Adds the removal of a key that the engine may have.</summary>
    /// <exception cref="ArgumentException">The key is not above the one before; nothing was added.</exception>
    public void Delete(ReadOnlySpan<byte> key) => Add(key, EntryKind.Delete, []);

    /// <summary>Writes what is left and makes the file durable; then only <see cref="Dispose"/> is allowed.</summary>
    /// <exception cref="InvalidOperationException">Nothing was added.</exception>
    public void Finish()
    {
        ThrowIfUnusable();
        if (_writer.IsEmpty)
            throw new InvalidOperationException($"Nothing was added to {_file.Path}: a table has at least one entry.");
        _writer.Finish();
        _finished = true;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _file.Dispose();
        if (!_finished)
            _fileSystem.Delete(_file.Path);
    }

    private void Add(ReadOnlySpan<byte> key, EntryKind kind, ReadOnlySpan<byte> value)
    {
        ThrowIfUnusable();
        StorageArguments.CheckKey(key);
        if (!_writer.IsEmpty && key.SequenceCompareTo(_writer.LastKey) <= 0)
            throw new ArgumentException($"Entry {_writer.Entries:N0} of {_file.Path} has a key that is not above the one before. Nothing was added.", nameof(key));
        _writer.Add(key, EntryTrailer.Of(0, kind), value);
    }

    private void ThrowIfUnusable()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (_finished)
            throw new InvalidOperationException($"The table {_file.Path} is finished.");
    }
}
