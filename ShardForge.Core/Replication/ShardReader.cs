using System.Buffers.Binary;
using System.Text;
using ShardForge.Common;

namespace ShardForge.Replication;

/// <summary>Reads the parts of <see cref="ShardCodec"/>'s format, each checked against what is left.</summary>
internal ref struct ShardReader(ReadOnlySpan<byte> bytes)
{
    private ReadOnlySpan<byte> _rest = bytes;

    public byte Byte() => Take(1)[0];

    public bool Boolean() => Byte() switch
    {
        0 => false,
        1 => true,
        byte other => throw new InvalidDataException($"{other} where 0 or 1 is expected."),
    };

    public int Int32() => BinaryPrimitives.ReadInt32LittleEndian(Take(sizeof(int)));

    public int NotNegative() => Int32() is >= 0 and int value ? value : throw new InvalidDataException("A negative number where none can be.");

    public ulong UInt64() => BinaryPrimitives.ReadUInt64LittleEndian(Take(sizeof(ulong)));

    public Timestamp Timestamp() => new(UInt64());

    public Timestamp? OptionalTimestamp() => Boolean() ? Timestamp() : null;

    /// <summary>A count of elements, so that a false one cannot make the reader allocate more than the bytes could hold.</summary>
    public int Count(int elementBytesMin)
    {
        if (!Varint.TryRead(_rest, out uint count, out int countBytes) || count > (_rest.Length - countBytes) / elementBytesMin)
            throw new InvalidDataException($"A count that {_rest.Length} bytes cannot hold.");
        _rest = _rest[countBytes..];
        return (int)count;
    }

    public byte[] Bytes() => Take(Count(elementBytesMin: 1)).ToArray();

    public byte[]? OptionalBytes() => Boolean() ? Bytes() : null;

    // The cast matters: without it a missing array would become an empty memory that is there.
    public ReadOnlyMemory<byte>? OptionalMemory() => OptionalBytes() is { } bytes ? (ReadOnlyMemory<byte>?)bytes : null;

    public string? OptionalText() => Boolean() ? Encoding.UTF8.GetString(Take(Count(elementBytesMin: 1))) : null;

    public OperationId Id() => new(UInt64(), UInt64());

    public ReadOnlyMemory<byte>[] Keys()
    {
        int count = Count(elementBytesMin: 1);
        ReadOnlyMemory<byte>[] keys = count == 0 ? [] : new ReadOnlyMemory<byte>[count];
        for (int i = 0; i < keys.Length; i++)
            keys[i] = Bytes();
        return keys;
    }

    public KeyRange[] Ranges()
    {
        int count = Count(elementBytesMin: 2);
        KeyRange[] ranges = count == 0 ? [] : new KeyRange[count];
        for (int i = 0; i < ranges.Length; i++)
            ranges[i] = Range();
        return ranges;
    }

    public DecidedTransaction[] Decided()
    {
        int count = Count(elementBytesMin: OperationId.Bytes + sizeof(ulong));
        DecidedTransaction[] decided = count == 0 ? [] : new DecidedTransaction[count];
        for (int i = 0; i < decided.Length; i++)
            decided[i] = new DecidedTransaction(Id(), Timestamp());
        return decided;
    }

    public KeyRange Range()
    {
        byte[] start = Bytes();
        return OptionalBytes() is { } end ? KeyRange.Between(start, end) : KeyRange.From(start);
    }

    public readonly void End()
    {
        if (!_rest.IsEmpty)
            throw new InvalidDataException($"{_rest.Length} bytes behind the end.");
    }

    private ReadOnlySpan<byte> Take(int count)
    {
        if (count > _rest.Length)
            throw new InvalidDataException($"{count} bytes are expected, {_rest.Length} are left.");
        ReadOnlySpan<byte> taken = _rest[..count];
        _rest = _rest[count..];
        return taken;
    }
}
