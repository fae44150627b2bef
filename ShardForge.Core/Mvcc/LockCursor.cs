using ShardForge.Storage;

namespace ShardForge.Mvcc;

/// <summary>Walks the locks of a range in key order or in reverse. One thread at a time.</summary>
internal sealed class LockCursor : IDisposable
{
    private readonly IStorageIterator _locks;
    private readonly bool _reverse;
    private byte[] _userKey = new byte[64];
    private int _userKeyBytes;
    private bool _begun;

    /// <param name="engine">Where to read.</param>
    /// <param name="range">Which user keys.</param>
    /// <param name="reverse">From the last key to the first.</param>
    /// <param name="snapshot">As of when.</param>
    public LockCursor(IStorageEngine engine, KeyRange range, bool reverse, IStorageSnapshot snapshot)
    {
        _reverse = reverse;
        _locks = engine.Scan(MvccKey.LockRange(range), new StorageScanOptions { Snapshot = snapshot });
    }

    /// <summary>The locked user key; lives until the next move.</summary>
    public ReadOnlySpan<byte> Key => _userKey.AsSpan(0, _userKeyBytes);

    /// <summary>The present lock.</summary>
    /// <exception cref="InvalidDataException">What lies there is none.</exception>
    public LockRecord Lock => LockRecord.Decode(_locks.Value);

    public bool MoveNext()
    {
        bool any = !_reverse ? _locks.MoveNext() : _begun ? _locks.MovePrevious() : _locks.SeekLast();
        _begun = true;
        if (!any)
            return false;
        ReadOnlySpan<byte> key = _locks.Key;
        if (_userKey.Length < key.Length)
            _userKey = new byte[Math.Max(key.Length, 2 * _userKey.Length)];
        return MvccKey.TryReadUserKey(key, KeySpace.Lock, _userKey, out _userKeyBytes, out _)
            ? true
            : throw new InvalidDataException($"An engine key among the locks is none ({key.Length} bytes).");
    }

    public void Dispose() => _locks.Dispose();
}
