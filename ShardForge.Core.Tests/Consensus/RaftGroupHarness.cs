using System.Diagnostics;
using System.Text;
using NUnit.Framework;
using ShardForge.Consensus;

namespace ShardForge.Tests.Consensus;

/// <summary>Replicas of one group, for the conformance suite: what it needs of an implementation of <see cref="IRaftGroup"/>.</summary>
/// <remarks>Replica i runs on node "n{i}" and has id i+1. "Wait" means: let time pass, real or virtual, until a condition holds; it fails at a deadline.</remarks>
internal abstract class RaftGroupHarness : IAsyncDisposable
{
    /// <summary>How many replicas there are.</summary>
    public abstract int Count { get; }

    /// <summary>Null while the replica is down.</summary>
    public abstract IRaftGroup? TryGroup(int replica);

    public abstract RecordingStateMachine Machine(int replica);

    /// <summary>No message between the two, either way.</summary>
    public abstract void Cut(int left, int right);

    /// <summary>All links are whole again.</summary>
    public abstract void Heal();

    /// <summary>The process ends; what was not durable is gone.</summary>
    public abstract ValueTask KillAsync(int replica);

    public abstract ValueTask RestartAsync(int replica);

    /// <summary>Lets time pass until the condition holds.</summary>
    public abstract ValueTask WaitUntilAsync(Func<bool> condition, string what);

    /// <summary>Lets so much time pass that a replica without a leader has stood for election for sure.</summary>
    public abstract ValueTask WaitElectionAsync();

    public abstract ValueTask DisposeAsync();

    public IRaftGroup Group(int replica) => TryGroup(replica) ?? throw new InvalidOperationException($"Replica {replica} is down.");

    public static ReplicaId IdOf(int replica) => new((ulong)replica + 1);

    public void Isolate(int replica)
    {
        for (int other = 0; other < Count; other++)
        {
            if (other != replica)
                Cut(replica, other);
        }
    }

    /// <summary>Waits for a leader that a majority agrees on and that has applied an entry of its term.</summary>
    public async ValueTask<int> WaitForLeaderAsync(int except = -1)
    {
        int leader = -1;
        await WaitUntilAsync(() => (leader = FindLeader(except)) >= 0, "a leader");
        return leader;
    }

    public async ValueTask<(LogIndex Index, Term Term)> ProposeAsync(string text)
    {
        (LogIndex, Term) place = default;
        await WaitUntilAsync(() => TryPropose(text, out place), $"a leader that takes '{text}'");
        return place;
    }

    /// <summary>Proposes and waits until a replica applied it; tries again where another entry took the place.</summary>
    public async ValueTask<LogIndex> WriteAsync(string text)
    {
        while (true)
        {
            (LogIndex index, Term term) = await ProposeAsync(text);
            CommittedEntry? there = null;
            await WaitUntilAsync(() => (there = FindEntry(index)) is not null, $"an entry at index {index}");
            if (there!.Value.Term == term)
                return index;
        }
    }

    public async ValueTask WaitForAppliedAsync(LogIndex index, params int[] replicas)
    {
        foreach (int replica in replicas.Length > 0 ? replicas : [.. Enumerable.Range(0, Count).Where(replica => TryGroup(replica) is not null)])
            await WaitUntilAsync(() => TryGroup(replica)?.AppliedIndex >= index, $"replica {replica} to apply {index}");
    }

    /// <summary>All replicas applied the same entry at each index.</summary>
    public void AssertSameHistory()
    {
        Dictionary<long, (Term Term, string Text)> history = [];
        for (int replica = 0; replica < Count; replica++)
        {
            foreach (CommittedEntry entry in Machine(replica).Applied)
            {
                (Term Term, string) here = (entry.Term, $"{entry.Kind} {Encoding.UTF8.GetString(entry.Payload.Span)}");
                Assert.That(history.TryAdd(entry.Index.Value, here) ? here : history[entry.Index.Value], Is.EqualTo(here), $"replica {replica}, index {entry.Index}");
            }
        }
    }

    private int FindLeader(int except)
    {
        for (int replica = 0; replica < Count; replica++)
        {
            if (replica == except || TryGroup(replica) is not { Status: { IsLeader: true } status } group)
                continue;
            int agreeing = Enumerable.Range(0, Count).Count(other => TryGroup(other)?.Status is { } seen && seen.Term == status.Term && seen.Leader == IdOf(replica));
            if (agreeing * 2 > Count && group.AppliedIndex.Value > 0 && Machine(replica).EntryAt(group.AppliedIndex)?.Term == status.Term)
                return replica;
        }

        return -1;
    }

    private CommittedEntry? FindEntry(LogIndex index) => Enumerable.Range(0, Count).Select(replica => Machine(replica).EntryAt(index)).FirstOrDefault(static entry => entry is not null);

    private bool TryPropose(string text, out (LogIndex, Term) place)
    {
        byte[] entry = Encoding.UTF8.GetBytes(text);
        for (int replica = 0; replica < Count; replica++)
        {
            if (TryGroup(replica) is { Status: { IsLeader: true } status } group && group.TryPropose(status.Term, entry, out LogIndex index))
            {
                place = (index, status.Term);
                return true;
            }
        }

        place = default;
        return false;
    }
}
