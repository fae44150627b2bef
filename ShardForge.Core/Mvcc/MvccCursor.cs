using System.Diagnostics.CodeAnalysis;
using ShardForge.Storage;

namespace ShardForge.Mvcc;

/// <summary>Walks the keys of a range that are present as of a timestamp, in key order or in reverse. One thread at a time.</summary>
/// <remarks>
/// Versions of a key lie newest first, so the visible one is the first at or below the timestamp. Forward: step over the newer ones, and
/// over the older ones to the next key; a key with many versions is left by a seek instead. In reverse a step back lands on the previous key's
/// oldest version: seek forward from there to the visible one, then back before the key's prefix (R24).
/// </remarks>
internal sealed class MvccCursor : IDisposable
{
    // A step costs about a tenth of a seek, so this is where a seek begins to pay.
    private const int StepsBeforeSeek = 8;

    private readonly IStorageIterator _versions;
    private readonly Timestamp _readAt;
    private readonly bool _reverse;
    private byte[] _key = new byte[64];      // engine key whose first _prefixBytes are the current user key's prefix, with room for a suffix
    private int _prefixBytes;
    private byte[] _userKey = new byte[64];
    private int _userKeyBytes;
    private int _headerBytes;
    private State _state;

    private enum State : byte
    {
        BeforeFirst,
        OnKey,
        AfterLast,
    }

    /// <param name="engine">Where to read.</param>
    /// <param name="range">Which user keys.</param>
    /// <param name="readAt">As of when.</param>
    /// <param name="reverse">From the last key to the first.</param>
    /// <param name="snapshot">Null: as of now.</param>
    public MvccCursor(IStorageEngine engine, KeyRange range, Timestamp readAt, bool reverse, IStorageSnapshot? snapshot)
    {
        _readAt = readAt;
        _reverse = reverse;
        _versions = engine.Scan(MvccKey.VersionRange(range), snapshot is null ? null : new StorageScanOptions { Snapshot = snapshot });
    }

    /// <summary>The current user key; lives until the next move.</summary>
    public ReadOnlySpan<byte> Key => _userKey.AsSpan(0, _userKeyBytes);

    /// <summary>The current value; lives until the next move.</summary>
    public ReadOnlySpan<byte> Value => _versions.Value[_headerBytes..];

    /// <summary>Timestamp of the current version.</summary>
    public Timestamp Timestamp { get; private set; }

    /// <summary>To the next key that is present; in reverse to the one before.</summary>
    public bool MoveNext()
    {
        while (_state != State.AfterLast && (_reverse ? MoveToPreviousKey() : MoveToNextKey()))
        {
            if (IsPresent())
                return true;
        }

        _state = State.AfterLast;
        return false;
    }

    public void Dispose() => _versions.Dispose();

    // Ends on the visible version of the next key that has one.
    private bool MoveToNextKey()
    {
        bool any = _state == State.BeforeFirst ? _versions.MoveNext() : LeaveKeyForward();
        _state = State.OnKey;
        while (any)
        {
            SetKey();
            if (TryReachVisible(out any))
                return true;
            // None visible: the iterator already stands behind the key, or at the end.
        }

        return false;
    }

    // From the newest version on: to the first at or below the timestamp. False: the key has none; `any` says whether the iterator stands on an entry behind it.
    private bool TryReachVisible(out bool any)
    {
        any = true;
        for (int steps = 0; any && IsOnKey(out Timestamp timestamp); steps++)
        {
            if (timestamp <= _readAt)
            {
                Timestamp = timestamp;
                return true;
            }

            any = steps < StepsBeforeSeek ? _versions.MoveNext() : _versions.Seek(SuffixedKey(_readAt));
        }

        return false;
    }

    private bool LeaveKeyForward()
    {
        for (int steps = 0; ; steps++)
        {
            if (!_versions.MoveNext())
                return false;
            if (!IsOnKey(out _))
                return true;
            // Timestamp zero is the last suffix a version can have, and no version has it.
            if (steps == StepsBeforeSeek)
                return _versions.Seek(SuffixedKey(default));
        }
    }

    private bool MoveToPreviousKey()
    {
        bool any = _state == State.BeforeFirst ? _versions.SeekLast() : _versions.SeekForPrevious(_key.AsSpan(0, _prefixBytes));
        _state = State.OnKey;
        while (any)
        {
            SetKey();
            if (_versions.Seek(SuffixedKey(_readAt)) && IsOnKey(out Timestamp timestamp))
            {
                Timestamp = timestamp;
                return true;
            }

            any = _versions.SeekForPrevious(_key.AsSpan(0, _prefixBytes));
        }

        return false;
    }

    private bool IsPresent()
    {
        VersionHeader header = VersionHeader.Read(_versions.Value, out _headerBytes);
        return header.IsPresentAt(_readAt);
    }

    private bool IsOnKey(out Timestamp timestamp)
    {
        ReadOnlySpan<byte> key = _versions.Key;
        if (key.Length == _prefixBytes + MvccKey.SuffixBytes && key.StartsWith(_key.AsSpan(0, _prefixBytes)))
        {
            timestamp = MvccKey.ReadSuffix(key[_prefixBytes..]);
            return true;
        }

        timestamp = default;
        return false;
    }

    private void SetKey()
    {
        ReadOnlySpan<byte> key = _versions.Key;
        if (_key.Length < key.Length)
            _key = new byte[Math.Max(key.Length, 2 * _key.Length)];
        if (_userKey.Length < key.Length)
            _userKey = new byte[_key.Length];
        if (!MvccKey.TryReadVersion(key, _userKey, out _userKeyBytes, out _))
            ThrowMalformed(key);
        _prefixBytes = key.Length - MvccKey.SuffixBytes;
        key.CopyTo(_key);
    }

    private ReadOnlySpan<byte> SuffixedKey(Timestamp timestamp)
    {
        MvccKey.WriteSuffix(_key.AsSpan(_prefixBytes), timestamp);
        return _key.AsSpan(0, _prefixBytes + MvccKey.SuffixBytes);
    }

    [DoesNotReturn]
    private static void ThrowMalformed(ReadOnlySpan<byte> key) =>
        throw new InvalidDataException($"An engine key among the versions is none: {Convert.ToHexString(key[..Math.Min(key.Length, 32)])} ({key.Length} bytes).");
}
