using System.Collections;
using DotNext.IO;
using DotNext.IO.Log;
using DotNext.Net.Cluster.Consensus.Raft;
using ShardForge.Consensus.NodeLog;

namespace ShardForge.Consensus;

/// <summary>An entry of ours as the consensus library wants to see it. All interface members are here: a default one would box the struct.</summary>
internal readonly struct RaftLogEntry(ReplicaLogEntry entry) : IRaftLogEntry
{
    public ReplicaLogEntry Entry { get; } = entry;

    long IRaftLogEntry.Term => Entry.Term.Value;

    int? IRaftLogEntry.CommandId => null;

    bool IRaftLogEntry.IsConfiguration => Entry.Kind == RaftEntryKind.Configuration;

    bool ILogEntry.IsSnapshot => false;

    bool IDataTransferObject.IsReusable => true;

    long? IDataTransferObject.Length => Entry.Payload.Length;

    bool IDataTransferObject.TryGetMemory(out ReadOnlyMemory<byte> memory)
    {
        memory = Entry.Payload;
        return true;
    }

    ValueTask IDataTransferObject.WriteToAsync<TWriter>(TWriter writer, CancellationToken token) => writer.Invoke(Entry.Payload, token);
}

/// <summary>Entries read for a follower.</summary>
/// <param name="lease">Holds the bytes; disposed by whoever made the list.</param>
/// <param name="isCapped">
/// Cut short of what the round covers: the answer must not count towards commit. The library takes the median of the first majority
/// of answers for what a majority holds, which is true only if each positive one covers the whole round (5 replicas would commit on 2).
/// </param>
internal sealed class RaftEntryList(ReplicaLogLease? lease, bool isCapped) : IReadOnlyList<RaftLogEntry>
{
    private readonly ReadOnlyMemory<ReplicaLogEntry> _entries = lease?.Entries ?? default;

    public static RaftEntryList Empty { get; } = new(null, isCapped: false);

    public bool IsCapped { get; } = isCapped;

    public ReadOnlyMemory<ReplicaLogEntry> Entries => _entries;

    public int Count => _entries.Length;

    public RaftLogEntry this[int index] => new(_entries.Span[index]);

    public IEnumerator<RaftLogEntry> GetEnumerator()
    {
        for (int i = 0; i < Count; i++)
            yield return this[i];
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}

/// <summary>The answer to a look-up of a term: one entry without content.</summary>
internal readonly struct RaftTermOnly(Term term) : IReadOnlyList<RaftLogEntry>
{
    public int Count => 1;

    public RaftLogEntry this[int index] => new(new ReplicaLogEntry(term, RaftEntryKind.NoOp, default));

    public IEnumerator<RaftLogEntry> GetEnumerator()
    {
        yield return this[0];
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}

/// <summary>Entries of an append that came in, one after the other.</summary>
internal sealed class RaftEntryFeed(ReadOnlyMemory<ReplicaLogEntry> entries) : ILogEntryProducer<RaftLogEntry>
{
    private int _at = -1;

    public long RemainingCount => entries.Length - _at - 1;

    public RaftLogEntry Current => new(entries.Span[_at]);

    public ValueTask<bool> MoveNextAsync()
    {
        if (_at + 1 >= entries.Length)
            return new(false);
        _at++;
        return new(true);
    }

    public ValueTask DisposeAsync() => default;
}

/// <summary>A snapshot on its way: at the leader, files that were written for a follower; at the follower, files that are complete in a generation's directory.</summary>
internal sealed class RaftSnapshot : IRaftLogEntry
{
    public required LogIndex Index { get; init; }

    /// <summary>Term of the entry at <see cref="Index"/>.</summary>
    public required Term Term { get; init; }

    /// <summary>Members as of <see cref="Index"/>, encoded.</summary>
    public required ReadOnlyMemory<byte> Configuration { get; init; }

    /// <summary>Where the files are.</summary>
    public required string Directory { get; init; }

    /// <summary>At the follower: the generation that counts once the log has recorded it.</summary>
    public long Generation { get; init; }

    long IRaftLogEntry.Term => Term.Value;

    bool ILogEntry.IsSnapshot => true;

    bool IDataTransferObject.IsReusable => true;

    long? IDataTransferObject.Length => 0;

    bool IDataTransferObject.TryGetMemory(out ReadOnlyMemory<byte> memory)
    {
        memory = default;
        return true;
    }

    ValueTask IDataTransferObject.WriteToAsync<TWriter>(TWriter writer, CancellationToken token) => default;
}
