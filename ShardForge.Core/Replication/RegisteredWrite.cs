using ShardForge.Mvcc;
using ShardForge.Storage;

namespace ShardForge.Replication;

/// <summary>How a proposed command ended.</summary>
internal enum CommandFate : byte
{
    None = 0,

    Applied = 1,

    /// <summary>It is not in the log and never will be: nothing was written.</summary>
    NotWritten = 2,

    /// <summary>Whether it is in the log cannot be told here any more.</summary>
    Unknown = 3,

    /// <summary>The replica stopped before it could tell.</summary>
    Stopped = 4,
}

/// <summary>Something on its way into the log. Completed once, outside the gate.</summary>
internal abstract class PendingCommand(TaskCreationOptions continuations)
{
    private readonly TaskCompletionSource<CommandFate> _fate = new(continuations);

    public Task<CommandFate> Fate => _fate.Task;

    /// <summary>What it counts against <see cref="Limits.ProposalBytesMax"/>.</summary>
    public required long ChargedBytes { get; init; }

    /// <summary>The leadership under which it was evaluated.</summary>
    public required LeaderState Leader { get; init; }

    public void Complete(CommandFate fate) => _fate.TrySetResult(fate);
}

/// <summary>Raises the shard's limit of history (R28).</summary>
internal sealed class LimitCommand(TaskCreationOptions continuations) : PendingCommand(continuations)
{
    public required Timestamp Limit { get; init; }
}

/// <summary>Removes records whose horizon has passed (R18).</summary>
internal sealed class SweepCommand(TaskCreationOptions continuations) : PendingCommand(continuations)
{
    /// <summary>Engine keys of the space of operations.</summary>
    public required IReadOnlyList<byte[]> EngineKeys { get; init; }

    public void Write(StorageBatch batch)
    {
        foreach (byte[] key in EngineKeys)
            batch.Delete(key);
    }
}

/// <summary>
/// A write and what it holds on the leader: its registration (R06) and its place in the queue of each of its keys, which is its latch (R09). Both begin
/// and end together. Mutable parts are guarded by the gate.
/// </summary>
internal sealed class RegisteredWrite(WriteRequest request, TaskCreationOptions continuations) : PendingCommand(continuations)
{
    private readonly TaskCompletionSource<bool> _turn = new(continuations);

    public WriteRequest Request { get; } = request;

    /// <summary>Blind puts and deletes that are no retry may hold a key together: they look at nothing.</summary>
    public bool IsShared { get; } = request is { Step: WriteStep.Commit, Change: ValueChange.None, HasCondition: false, Start: null, IsRetry: false, ReadKeys.Count: 0, ReadRanges.Count: 0 };

    /// <summary>It frees room sooner or later, and takes hardly any.</summary>
    public bool OnlyDeletes { get; } = request.Writes.All(static write => write.Value is null);

    /// <summary>Hashes of its keys, in the order of the request.</summary>
    public ulong[] KeyHashes { get; } = HashesOf(request);

    /// <summary>Keys on which it waits for others.</summary>
    public int BlockedKeyCount { get; set; }

    /// <summary>M of R06; zero: open.</summary>
    public Timestamp CommitTimestamp { get; set; }

    /// <summary>Of a change of a value: what it came to.</summary>
    public byte[]? ChangedValue { get; set; }

    /// <summary>Of a prewrite: the highest M or C of its keys that an earlier attempt wrote (R14); zero: none.</summary>
    public Timestamp EarlierTimestamp { get; set; }

    /// <summary>Keys of the request that the command leaves alone; null: none.</summary>
    public bool[]? Skipped { get; set; }

    /// <summary>Of a decision or resolution: the locks that it ends, with their values, in the order of the request's keys; null for a key without one.</summary>
    public LockRecord?[]? Locks { get; set; }

    /// <summary>Of a decision or mark: when it was written, for the horizon (R18).</summary>
    public Timestamp Written { get; set; }

    /// <summary>Of a step that fixes no M: what to answer once it is applied.</summary>
    public ShardResponse? Answer { get; set; }

    /// <summary>It has given up, or is applied: it is in no queue.</summary>
    public bool IsRemoved { get; set; }

    /// <summary>Reads that wait for it.</summary>
    public List<ReadWaiter>? Waiters { get; set; }

    /// <summary>Neighbours among all registered writes.</summary>
    public RegisteredWrite? Previous { get; set; }

    /// <summary>Neighbours among all registered writes.</summary>
    public RegisteredWrite? Next { get; set; }

    /// <summary>True: it holds all its keys. False: the leadership was lost before.</summary>
    public Task<bool> Turn => _turn.Task;

    public void CompleteTurn(bool granted) => _turn.TrySetResult(granted);

    public bool Writes(ReadOnlySpan<byte> key)
    {
        foreach (KeyWrite write in Request.Writes)
        {
            if (write.Key.Span.SequenceEqual(key))
                return true;
        }

        return false;
    }

    private static ulong[] HashesOf(WriteRequest request)
    {
        ulong[] hashes = new ulong[request.Writes.Count];
        for (int i = 0; i < hashes.Length; i++)
            hashes[i] = KeyComparer.Hash(request.Writes[i].Key.Span);
        return hashes;
    }
}
