using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Table;

/// <summary>Where a block is in its table: offset, and length without the five bytes of its trailer. On disk two varints.</summary>
internal readonly record struct BlockHandle(long Offset, int Bytes)
{
    public const int EncodedBytesMax = Varint.Bytes64Max + Varint.Bytes32Max;

    public bool IsNone => Bytes == 0;

    public int Write(Span<byte> target)
    {
        int at = Varint.Write(target, (ulong)Offset);
        return at + Varint.Write(target[at..], (uint)Bytes);
    }

    public static bool TryRead(ReadOnlySpan<byte> source, out BlockHandle handle)
    {
        handle = default;
        if (!Varint.TryRead(source, out ulong offset, out int offsetBytes) || offset > long.MaxValue ||
            !Varint.TryRead(source[offsetBytes..], out uint bytes, out _) || bytes > int.MaxValue)
        {
            return false;
        }

        handle = new((long)offset, (int)bytes);
        return true;
    }
}
