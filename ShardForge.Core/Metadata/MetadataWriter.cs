using System.Buffers;
using System.Buffers.Binary;
using System.Text;
using ShardForge.Common;

namespace ShardForge.Metadata;

/// <summary>Writes the pieces that the formats of the metadata are made of.</summary>
/// <remarks><code>
/// number | varint                                    string | length varint | UTF-8 |
/// guid   | 16, as RFC 4122 orders it                 bytes  | length varint | bytes |
/// flag   | 1: 0 or 1
/// </code></remarks>
internal sealed class MetadataWriter
{
    private readonly ArrayBufferWriter<byte> _bytes = new();

    public ReadOnlySpan<byte> Written => _bytes.WrittenSpan;

    public byte[] ToArray() => _bytes.WrittenSpan.ToArray();

    public MetadataWriter Byte(byte value)
    {
        _bytes.GetSpan(1)[0] = value;
        _bytes.Advance(1);
        return this;
    }

    public MetadataWriter Flag(bool value) => Byte(value ? (byte)1 : (byte)0);

    public MetadataWriter UInt16(ushort value)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(_bytes.GetSpan(sizeof(ushort)), value);
        _bytes.Advance(sizeof(ushort));
        return this;
    }

    public MetadataWriter Number(ulong value)
    {
        _bytes.Advance(Varint.Write(_bytes.GetSpan(Varint.Bytes64Max), value));
        return this;
    }

    /// <summary>A number that is never negative.</summary>
    public MetadataWriter Number(long value) => Number(checked((ulong)value));

    public MetadataWriter Guid(Guid value)
    {
        value.TryWriteBytes(_bytes.GetSpan(16), bigEndian: true, out int written);
        _bytes.Advance(written);
        return this;
    }

    public MetadataWriter Text(string value)
    {
        int length = Encoding.UTF8.GetByteCount(value);
        Number(length);
        _bytes.Advance(Encoding.UTF8.GetBytes(value, _bytes.GetSpan(length)));
        return this;
    }

    public MetadataWriter Bytes(ReadOnlySpan<byte> value)
    {
        Number(value.Length);
        _bytes.Write(value);
        return this;
    }
}
