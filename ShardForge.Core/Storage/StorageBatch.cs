using System.Buffers;
using System.Runtime.CompilerServices;
using ShardForge.Common;

namespace ShardForge.Storage;

/// <summary>Puts, deletes and range deletes that are applied in their order, atomically. Reusable: grows and keeps its buffer. Not thread-safe.</summary>
/// <remarks><code>
/// batch  | operation | operation | ...
/// put    | 1 | key length varint | value length varint | key | value |
/// delete | 2 | key length varint | key |
/// range  | 3 | start length varint | end length varint | start | end |     start inclusive, end exclusive, never empty
/// </code>
/// The same bytes travel in a Raft entry and in an engine's log.
/// Versions of the format: 1 (this one); the entry or log record around it carries the number.</remarks>
public sealed class StorageBatch
{
    internal const int KeyBytesMax = 64 * 1024, ValueBytesMax = 64 * 1024 * 1024;

    private byte[] _buffer = [];
    private int _length;

    /// <summary>How many operations it has.</summary>
    public int Count { get; private set; }

    /// <summary>The operations as bytes; live until the next change of the batch.</summary>
    internal ReadOnlySpan<byte> Encoded => _buffer.AsSpan(0, _length);

    internal ReadOnlyMemory<byte> EncodedMemory => _buffer.AsMemory(0, _length);

    /// <summary>Adds a write of a key.</summary>
    public void Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        StorageArguments.CheckKey(key);
        StorageArguments.CheckValue(value.Length);
        Span<byte> target = Reserve(1 + (2 * Varint.Bytes32Max) + key.Length + value.Length);
        target[0] = (byte)StorageOperationKind.Put;
        int at = 1;
        at += Varint.Write(target[at..], (uint)key.Length);
        at += Varint.Write(target[at..], (uint)value.Length);
        key.CopyTo(target[at..]);
        value.CopyTo(target[(at + key.Length)..]);
        Advance(at + key.Length + value.Length);
    }

    /// <summary>Adds the removal of a key, present or not.</summary>
    public void Delete(ReadOnlySpan<byte> key)
    {
        StorageArguments.CheckKey(key);
        Span<byte> target = Reserve(1 + Varint.Bytes32Max + key.Length);
        target[0] = (byte)StorageOperationKind.Delete;
        int at = 1;
        at += Varint.Write(target[at..], (uint)key.Length);
        key.CopyTo(target[at..]);
        Advance(at + key.Length);
    }

    /// <summary>Adds the removal of every key from a start up to an end; an end at or below the start adds nothing.</summary>
    public void DeleteRange(ReadOnlySpan<byte> startInclusive, ReadOnlySpan<byte> endExclusive)
    {
        StorageArguments.CheckBound(startInclusive);
        StorageArguments.CheckBound(endExclusive);
        if (startInclusive.SequenceCompareTo(endExclusive) >= 0)
            return;
        Span<byte> target = Reserve(1 + (2 * Varint.Bytes32Max) + startInclusive.Length + endExclusive.Length);
        target[0] = (byte)StorageOperationKind.DeleteRange;
        int at = 1;
        at += Varint.Write(target[at..], (uint)startInclusive.Length);
        at += Varint.Write(target[at..], (uint)endExclusive.Length);
        startInclusive.CopyTo(target[at..]);
        endExclusive.CopyTo(target[(at + startInclusive.Length)..]);
        Advance(at + startInclusive.Length + endExclusive.Length);
    }

    /// <summary>Takes everything out; the buffer stays.</summary>
    public void Clear()
    {
        _length = 0;
        Count = 0;
    }

    /// <summary>Reads the operations in their order.</summary>
    internal StorageBatchReader GetReader() => new(Encoded);

    /// <summary>Adds all operations of an encoded batch, which is checked on the way.</summary>
    internal void Append(ReadOnlySpan<byte> encoded)
    {
        int count = 0;
        StorageBatchReader reader = new(encoded);
        while (reader.MoveNext())
            count++;
        encoded.CopyTo(Reserve(encoded.Length));
        _length += encoded.Length;
        Count += count;
    }

    private Span<byte> Reserve(int bytes)
    {
        if (_buffer.Length - _length < bytes)
            Array.Resize(ref _buffer, (int)Math.Min(Array.MaxLength, Math.Max((long)_length + bytes, Math.Max(256, 2L * _buffer.Length))));
        return _buffer.AsSpan(_length);
    }

    private void Advance(int bytes)
    {
        _length += bytes;
        Count++;
    }
}

internal enum StorageOperationKind : byte
{
    None = 0,
    Put = 1,
    Delete = 2,
    DeleteRange = 3,
}

/// <summary>Walks the operations of an encoded batch. Bytes that are none throw <see cref="InvalidDataException"/>: a checksum around them passed, so they were written wrong.</summary>
internal ref struct StorageBatchReader(ReadOnlySpan<byte> encoded)
{
    private ReadOnlySpan<byte> _rest = encoded;

    public StorageOperationKind Kind { get; private set; }

    /// <summary>The key; of a range delete its start.</summary>
    public ReadOnlySpan<byte> Key { get; private set; }

    /// <summary>The value; of a range delete its end (exclusive).</summary>
    public ReadOnlySpan<byte> Value { get; private set; }

    public bool MoveNext()
    {
        if (_rest.IsEmpty)
            return false;
        Kind = (StorageOperationKind)_rest[0];
        int at = 1;
        if (Kind is < StorageOperationKind.Put or > StorageOperationKind.DeleteRange)
            throw new InvalidDataException($"Operation kind {_rest[0]} in a storage batch.");
        uint keyBytes = Read(ref at);
        uint valueBytes = Kind == StorageOperationKind.Delete ? 0 : Read(ref at);
        if (keyBytes + (ulong)valueBytes > (ulong)(_rest.Length - at))
            throw new InvalidDataException("A storage batch ends inside an operation.");
        Key = _rest.Slice(at, (int)keyBytes);
        Value = _rest.Slice(at + (int)keyBytes, (int)valueBytes);
        _rest = _rest[(at + (int)keyBytes + (int)valueBytes)..];
        return true;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly uint Read(ref int at)
    {
        if (!Varint.TryRead(_rest[at..], out uint number, out int bytes))
            throw new InvalidDataException("A storage batch ends inside a length.");
        at += bytes;
        return number;
    }
}
