using System.Buffers.Binary;
using System.Text;
using ShardForge.Common;

namespace ShardForge.Metadata;

/// <summary>Reads what <see cref="MetadataWriter"/> wrote. Every length and number is checked before it is believed: what does not fit is an <see cref="InvalidDataException"/>.</summary>
internal ref struct MetadataReader(ReadOnlySpan<byte> bytes)
{
    /// <summary>Longest text, in bytes: node ids and addresses are far shorter.</summary>
    private const int TextBytesMax = 4 * 1024;

    private ReadOnlySpan<byte> _rest = bytes;

    public byte Byte() => Take(1)[0];

    public bool Flag() => Byte() switch
    {
        0 => false,
        1 => true,
        byte other => throw new InvalidDataException($"A flag of value {other}."),
    };

    public ushort UInt16() => BinaryPrimitives.ReadUInt16LittleEndian(Take(sizeof(ushort)));

    public ulong Number()
    {
        if (!Varint.TryRead(_rest, out ulong number, out int bytes))
            throw new InvalidDataException("A number is cut off or too large.");
        _rest = _rest[bytes..];
        return number;
    }

    public long Int64()
    {
        ulong number = Number();
        return number <= long.MaxValue ? (long)number : throw new InvalidDataException($"The number {number} is too large.");
    }

    public int Int32()
    {
        ulong number = Number();
        return number <= int.MaxValue ? (int)number : throw new InvalidDataException($"The number {number} is too large.");
    }

    /// <summary>A number of things that follow, each of at least a byte.</summary>
    public int Count()
    {
        int count = Int32();
        return count <= _rest.Length ? count : throw new InvalidDataException($"{count:N0} things are announced in {_rest.Length:N0} bytes.");
    }

    public Guid Guid() => new(Take(16), bigEndian: true);

    public string Text()
    {
        int length = Int32();
        if (length > TextBytesMax)
            throw new InvalidDataException($"A text of {length:N0} bytes; the limit is {TextBytesMax:N0}.");
        return Encoding.UTF8.GetString(Take(length));
    }

    public byte[] Bytes() => Take(Int32()).ToArray();

    public readonly void ExpectEnd()
    {
        if (!_rest.IsEmpty)
            throw new InvalidDataException($"{_rest.Length:N0} bytes too many.");
    }

    private ReadOnlySpan<byte> Take(int length)
    {
        if (length > _rest.Length)
            throw new InvalidDataException($"{length:N0} bytes are wanted, {_rest.Length:N0} are left.");
        ReadOnlySpan<byte> taken = _rest[..length];
        _rest = _rest[length..];
        return taken;
    }
}
