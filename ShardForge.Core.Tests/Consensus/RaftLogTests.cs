using System.Reflection;
using DotNext.Net.Cluster.Consensus.Raft;
using DotNext.Net.Cluster.Consensus.Raft.StateMachine;
using NUnit.Framework;
using ShardForge.Consensus;
using ShardForge.Consensus.NodeLog;

namespace ShardForge.Tests.Consensus;

/// <summary>The log as the library sees it, alone.</summary>
internal sealed class RaftLogTests
{
    private static readonly RaftConfiguration s_members = new([new RaftMember(new ReplicaId(1), "n0"), new RaftMember(new ReplicaId(2), "n1"), new RaftMember(new ReplicaId(3), "n2")]);

    [Test]
    public void No_member_of_the_base_is_reachable_through_the_interface()
    {
        // Its fields are null. The exception is an automatic property that the library never sets and may read as null; its setter cannot be implemented outside.
        string[] allowed = ["get_ConfigurationStorage", "set_ConfigurationStorage"];
        List<string> reachable = [];
        foreach (Type contract in typeof(IPersistentState).GetInterfaces().Append(typeof(IPersistentState)))
        {
            InterfaceMapping map = typeof(RaftLog).GetInterfaceMap(contract);
            for (int i = 0; i < map.InterfaceMethods.Length; i++)
            {
                MethodInfo target = map.TargetMethods[i];
                if (target.DeclaringType == typeof(WriteAheadLog) && !allowed.Contains(map.InterfaceMethods[i].Name))
                    reachable.Add($"{contract.Name}.{map.InterfaceMethods[i].Name}");
            }
        }

        Assert.That(reachable, Is.Empty);
    }

    [Test]
    public async Task Rule01_A_cancelled_token_wins_over_an_index_that_is_applied()
    {
        AppliedWaiters waiters = new(new LogIndex(5));
        await waiters.WaitAsync(new LogIndex(5), new Term(1), CancellationToken.None);
        Assert.That(async () => await waiters.WaitAsync(new LogIndex(5), new Term(1), new CancellationToken(canceled: true)), Throws.InstanceOf<OperationCanceledException>());
    }

    [Test]
    public async Task Rule01_An_entry_of_another_term_at_the_index_does_not_complete_the_wait()
    {
        AppliedWaiters waiters = new(default);
        Task mine = waiters.WaitAsync(new LogIndex(2), new Term(1), CancellationToken.None).AsTask();
        Task theirs = waiters.WaitAsync(new LogIndex(2), new Term(2), CancellationToken.None).AsTask();
        Task later = waiters.WaitAsync(new LogIndex(3), new Term(2), CancellationToken.None).AsTask();
        waiters.Advance(new LogIndex(1), [Entry(1, 1), Entry(2, 2)]);
        Assert.That(async () => await mine, Throws.InstanceOf<OperationCanceledException>());
        await theirs;
        Assert.That(later.IsCompleted, Is.False);
        waiters.Advance(new LogIndex(3), [Entry(3, 2)]);
        await later;
    }

    [Test]
    public async Task Rule02_An_entry_of_another_term_is_not_appended()
    {
        (IPersistentState log, MemoryReplicaLog replica, _) = Create();
        await log.UpdateTermAsync(4, resetLastVote: true);
        Assert.That(async () => await log.AppendAsync(new EmptyLogEntry { Term = 3 }), Throws.InstanceOf<OperationCanceledException>());
        Assert.That(replica.LastIndex, Is.EqualTo(new LogIndex(0)));
        Assert.That(await log.AppendAsync(new EmptyLogEntry { Term = 4 }), Is.EqualTo(1));
        Assert.That(replica.LastTerm, Is.EqualTo(new Term(4)));
    }

    [Test]
    public async Task Term_and_own_vote_are_one_write()
    {
        (IPersistentState log, MemoryReplicaLog replica, _) = Create();
        int before = replica.HardStateWrites;
        Assert.That(await log.IncrementTermAsync(RaftMemberId.FromReplica(new ReplicaId(1))), Is.EqualTo(2));
        Assert.That(replica.HardStateWrites, Is.EqualTo(before + 1));
        Assert.That(log.IsVotedFor(RaftMemberId.FromReplica(new ReplicaId(1))), Is.True);
        Assert.That(log.IsVotedFor(RaftMemberId.FromReplica(new ReplicaId(2))), Is.False);
    }

    [Test]
    public async Task Rule04_A_commit_waits_until_the_entries_are_durable_here()
    {
        (IPersistentState log, MemoryReplicaLog replica, _) = Create();
        replica.HoldFlushes();
        await log.AppendAsync(new EmptyLogEntry { Term = 1 });
        Task<long> commit = log.CommitAsync(1).AsTask();
        Assert.That(commit.IsCompleted, Is.False);
        Assert.That(log.LastCommittedEntryIndex, Is.Zero);
        replica.Flush();
        Assert.That(await commit, Is.EqualTo(1));
        Assert.That(log.LastCommittedEntryIndex, Is.EqualTo(1));
        Assert.That(await log.CommitAsync(1), Is.Zero);
    }

    [Test]
    public async Task A_failed_flush_stops_the_replica()
    {
        (IPersistentState log, MemoryReplicaLog replica, Owner owner) = Create();
        replica.HoldFlushes();
        await log.AppendAsync(new EmptyLogEntry { Term = 1 });
        Task<long> commit = log.CommitAsync(1).AsTask();
        replica.Fail(new IOException("disk"));
        Assert.That(async () => await commit, Throws.InstanceOf<IOException>());
        Assert.That(owner.Failure, Is.InstanceOf<IOException>());
        Assert.That(log.LastCommittedEntryIndex, Is.Zero);
    }

    private static CommittedEntry Entry(long index, long term) => new(new LogIndex(index), new Term(term), RaftEntryKind.Command, default);

    private static (IPersistentState Log, MemoryReplicaLog Replica, Owner Owner) Create()
    {
        MemoryReplicaLog replica = new(new ReplicaId(1), s_members);
        Owner owner = new();
        return (RaftLog.Create(replica, owner, default, readBytesMax: 1024), replica, owner);
    }

    private sealed class Owner : IRaftLogOwner
    {
        public Exception? Failure { get; private set; }

        public void OnStandsForElection() { }

        public void OnTermChanged() { }

        public void OnNoOpAppended(Term term, LogIndex index) { }

        public void OnCommitted() { }

        public void OnSnapshotRecorded(RaftSnapshot snapshot) { }

        public void OnLogFailed(Exception error) => Failure = error;

        public ValueTask<RaftSnapshot> PinSnapshotAsync(CancellationToken cancellationToken) => throw new NotSupportedException();

        public ValueTask UnpinSnapshotAsync(RaftSnapshot snapshot) => default;
    }
}
