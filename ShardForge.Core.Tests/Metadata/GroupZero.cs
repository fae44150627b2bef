using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Consensus.Scripted;
using ShardForge.Metadata;

namespace ShardForge.Tests.Metadata;

/// <summary>Three replicas of group 0 on a scripted group.</summary>
internal sealed class GroupZero : IDisposable
{
    private readonly Dictionary<ReplicaId, MetadataReplica> _replicas = [];

    public GroupZero(TimeProvider? time = null)
    {
        Time = time ?? new ScriptedTime();
        Formation = States.Formation();
        Cluster = new(ShardId.Metadata, Formation.MetadataGroup.Replicas);
        for (int number = 1; number <= 3; number++)
            Open(number);
    }

    public TimeProvider Time { get; }

    public ClusterState Formation { get; }

    public ScriptedCluster Cluster { get; }

    public InMemoryFileSystem FileSystem { get; } = new();

    public MetadataReplica this[int number] => _replicas[IdOf(number)];

    public static ReplicaId IdOf(int number) => new((ulong)number);

    public ScriptedRaftGroup Group(int number) => Cluster[IdOf(number)];

    /// <summary>Opens a replica on what its disk holds, and feeds it.</summary>
    public MetadataReplica Open(int number, long generation = 1, LogIndex compacted = default)
    {
        FileSystem.CreateDirectory($"/shards/r{number}");
        MetadataReplica replica = MetadataReplica.Open(new()
        {
            Replica = IdOf(number),
            Formation = Formation,
            FileSystem = FileSystem,
            Directory = $"/shards/r{number}",
            Generation = generation,
            CompactedIndex = compacted,
            TimeProvider = Time,
        });
        _replicas[IdOf(number)] = replica;
        replica.Attach(Group(number));
        Cluster.Attach(IdOf(number), replica);
        return replica;
    }

    public void Elect(int number, bool deposeOthers = true) => Cluster.Elect(IdOf(number), deposeOthers: deposeOthers);

    public void Dispose() => Cluster.Dispose();
}
