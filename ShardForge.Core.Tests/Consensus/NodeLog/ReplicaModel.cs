using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Consensus.NodeLog;

namespace ShardForge.Tests.Consensus.NodeLog;

/// <summary>What a replica's log must hold, in the plainest way.</summary>
internal sealed record ReplicaModel(ulong Id)
{
    public long Term { get; init; } = 1;

    public ulong Vote { get; init; }

    public long Compacted { get; init; }

    public long CompactedTerm { get; init; }

    public byte Configuration { get; init; } = 1;

    public long Generation { get; init; } = 1;

    public bool IsRemoved { get; init; }

    public IReadOnlyList<ModelEntry> Entries { get; init; } = [];

    public long Last => Compacted + Entries.Count;

    public long LastTerm => Entries.Count > 0 ? Entries[^1].Term : CompactedTerm;

    public byte LastConfiguration => Entries.LastOrDefault(static entry => entry.IsConfiguration) is { } found ? (byte)found.Number : Configuration;

    public ReplicaModel Append(params ModelEntry[] entries) => this with { Entries = [.. Entries, .. entries] };

    public ReplicaModel AppendFrom(long first, params ModelEntry[] entries)
    {
        ReplicaModel model = this;
        for (int i = 0; i < entries.Length; i++)
        {
            long index = first + i;
            if (index <= model.Compacted || (index <= model.Last && model.Entries[(int)(index - model.Compacted - 1)].Term == entries[i].Term))
                continue;
            model = model with { Entries = [.. model.Entries.Take((int)(index - model.Compacted - 1)), entries[i]] };
        }

        return model;
    }

    public ReplicaModel Compact(long index)
    {
        if (index <= Compacted)
            return this;
        int count = (int)(index - Compacted);
        ModelEntry? configuration = Entries.Take(count).LastOrDefault(static entry => entry.IsConfiguration);
        return this with
        {
            CompactedTerm = Entries[count - 1].Term,
            Compacted = index,
            Configuration = configuration is null ? Configuration : (byte)configuration.Number,
            Entries = [.. Entries.Skip(count)],
        };
    }

    public ReplicaModel Reset(long index, long term, byte configuration, long generation)
    {
        bool keeps = index > Compacted && index <= Last && Entries[(int)(index - Compacted - 1)].Term == term;
        return this with
        {
            Compacted = index,
            CompactedTerm = term,
            Configuration = configuration,
            Generation = generation,
            Entries = keeps ? [.. Entries.Skip((int)(index - Compacted))] : [],
        };
    }

    public string Describe() => IsRemoved
        ? "removed"
        : $"term {Term} vote {Vote} generation {Generation} mark {Compacted}@{CompactedTerm} configuration {Configuration}/{LastConfiguration} entries " +
          string.Join(' ', Entries.Select(static entry => $"{entry.Term}:{Crc32C.Compute(entry.Payload):x8}"));

    public static string Describe(IReplicaLog log)
    {
        List<string> entries = [];
        for (LogIndex at = log.CompactedIndex.Next; at <= log.LastIndex;)
        {
            using ReplicaLogLease lease = log.Read(at, log.LastIndex, 20_000);
            foreach (ReplicaLogEntry entry in lease.Entries.Span)
                entries.Add($"{entry.Term}:{Crc32C.Compute(entry.Payload.Span):x8}");
            at = new(at.Value + lease.Entries.Length);
        }

        return $"term {log.Term} vote {log.VotedFor.Value} generation {log.Generation} mark {log.CompactedIndex}@{log.CompactedTerm} " +
            $"configuration {log.CompactedConfiguration.Span[0]}/{log.LastConfiguration.Configuration.Span[0]} entries " + string.Join(' ', entries);
    }
}

/// <summary>An entry of a model: its payload follows from its number and size.</summary>
internal sealed record ModelEntry(long Term, int Number, int Bytes, bool IsConfiguration)
{
    public byte[] Payload => IsConfiguration ? [(byte)Number, .. new byte[Bytes]] : LogFixture.Payload(Number, Bytes);

    public ReplicaLogEntry ToEntry() => new(new(Term), IsConfiguration ? RaftEntryKind.Configuration : RaftEntryKind.Command, Payload);
}
