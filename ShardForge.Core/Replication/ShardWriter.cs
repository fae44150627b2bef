using System.Buffers;
using System.Buffers.Binary;
using System.Text;
using ShardForge.Common;

namespace ShardForge.Replication;

/// <summary>Writes the parts of <see cref="ShardCodec"/>'s format.</summary>
internal readonly ref struct ShardWriter(IBufferWriter<byte> target)
{
    public void Byte(byte value)
    {
        target.GetSpan(1)[0] = value;
        target.Advance(1);
    }

    public void Int32(int value)
    {
        BinaryPrimitives.WriteInt32LittleEndian(target.GetSpan(sizeof(int)), value);
        target.Advance(sizeof(int));
    }

    public void UInt64(ulong value)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(target.GetSpan(sizeof(ulong)), value);
        target.Advance(sizeof(ulong));
    }

    public void Count(int count) => target.Advance(Varint.Write(target.GetSpan(Varint.Bytes32Max), (uint)count));

    public void Bytes(ReadOnlySpan<byte> bytes)
    {
        Count(bytes.Length);
        target.Write(bytes);
    }

    public void OptionalBytes(byte[]? bytes) => OptionalBytes(bytes is null ? null : (ReadOnlyMemory<byte>?)bytes);

    public void OptionalBytes(ReadOnlyMemory<byte>? bytes)
    {
        Byte(bytes is null ? (byte)0 : (byte)1);
        if (bytes is { } present)
            Bytes(present.Span);
    }

    public void OptionalText(string? text) => OptionalBytes(text is null ? (byte[]?)null : Encoding.UTF8.GetBytes(text));

    public void Optional(Timestamp? timestamp)
    {
        Byte(timestamp is null ? (byte)0 : (byte)1);
        if (timestamp is { } present)
            UInt64(present.Value);
    }

    public void Id(OperationId id)
    {
        UInt64(id.High);
        UInt64(id.Low);
    }

    public void Keys(IReadOnlyList<ReadOnlyMemory<byte>> keys)
    {
        Count(keys.Count);
        for (int i = 0; i < keys.Count; i++)
            Bytes(keys[i].Span);
    }

    public void Ranges(IReadOnlyList<KeyRange> ranges)
    {
        Count(ranges.Count);
        for (int i = 0; i < ranges.Count; i++)
            Range(ranges[i]);
    }

    public void Decided(IReadOnlyList<DecidedTransaction> decided)
    {
        Count(decided.Count);
        for (int i = 0; i < decided.Count; i++)
        {
            Id(decided[i].Id);
            UInt64(decided[i].Commit.Value);
        }
    }

    public void Range(KeyRange range)
    {
        Bytes(range.Start.Span);
        OptionalBytes(range.HasEnd ? (ReadOnlyMemory<byte>?)range.End : null);
    }
}
