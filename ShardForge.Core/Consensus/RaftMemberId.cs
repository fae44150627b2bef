using System.Buffers.Binary;
using DotNext.Net.Cluster;

namespace ShardForge.Consensus;

/// <summary>A replica id as the library's id of a member: the number in the first 8 bytes, zeros behind.</summary>
internal static class RaftMemberId
{
    public static ClusterMemberId FromReplica(ReplicaId replica)
    {
        Span<byte> bytes = stackalloc byte[ClusterMemberId.Size];
        bytes.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, replica.Value);
        return new ClusterMemberId(bytes);
    }

    public static ReplicaId ToReplica(in ClusterMemberId id)
    {
        Span<byte> bytes = stackalloc byte[ClusterMemberId.Size];
        id.Format(bytes);
        return new ReplicaId(BinaryPrimitives.ReadUInt64LittleEndian(bytes));
    }
}
