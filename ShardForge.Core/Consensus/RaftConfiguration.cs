using System.Buffers;
using System.Buffers.Binary;
using System.Text;

namespace ShardForge.Consensus;

/// <summary>Members of a group, as a configuration entry, a compaction mark and a snapshot carry them.</summary>
/// <remarks><code>
/// configuration | version 1 | count 2 | member | member | ...
/// member        | replica id 8 | node id length 1 | node id (UTF-8) |                        little-endian
/// </code>
/// Versions of the format: 1 (this one). The record or frame around it carries the checksum.</remarks>
internal sealed class RaftConfiguration(IReadOnlyList<RaftMember> members)
{
    private const byte Version = 1;

    public IReadOnlyList<RaftMember> Members { get; } = members;

    public byte[] Encode()
    {
        ArrayBufferWriter<byte> writer = new();
        Span<byte> head = writer.GetSpan(3);
        head[0] = Version;
        BinaryPrimitives.WriteUInt16LittleEndian(head[1..], checked((ushort)Members.Count));
        writer.Advance(3);
        foreach (RaftMember member in Members)
        {
            int nodeBytes = Encoding.UTF8.GetByteCount(member.NodeId);
            Span<byte> target = writer.GetSpan(9 + nodeBytes);
            BinaryPrimitives.WriteUInt64LittleEndian(target, member.Replica.Value);
            target[8] = checked((byte)nodeBytes);
            Encoding.UTF8.GetBytes(member.NodeId, target[9..]);
            writer.Advance(9 + nodeBytes);
        }

        return writer.WrittenSpan.ToArray();
    }

    /// <summary>Reads what <see cref="Encode"/> wrote; <see cref="InvalidDataException"/> for anything else.</summary>
    public static RaftConfiguration Decode(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length < 3 || bytes[0] != Version)
            throw new InvalidDataException($"Group configuration of version {(bytes.IsEmpty ? -1 : bytes[0])}; this build reads version {Version}.");
        int count = BinaryPrimitives.ReadUInt16LittleEndian(bytes[1..]);
        RaftMember[] members = new RaftMember[count];
        ReadOnlySpan<byte> rest = bytes[3..];
        for (int i = 0; i < count; i++)
        {
            if (rest.Length < 9 || rest.Length < 9 + rest[8])
                throw new InvalidDataException("A group configuration ends inside a member.");
            members[i] = new(new ReplicaId(BinaryPrimitives.ReadUInt64LittleEndian(rest)), Encoding.UTF8.GetString(rest.Slice(9, rest[8])));
            rest = rest[(9 + rest[8])..];
        }

        return rest.IsEmpty ? new(members) : throw new InvalidDataException($"{rest.Length} bytes behind a group configuration.");
    }
}
