namespace ShardForge.Replication;

/// <summary>A switch for each rule that a leader keeps. All are on; a test turns one off to show the anomaly that it prevents, so that the rule is known to matter.</summary>
internal sealed record ReplicationRules
{
    public static ReplicationRules All { get; } = new();

    /// <summary>R06: keys are registered, open, before the oracle is asked. Off: only once the timestamp is fixed.</summary>
    public bool R06RegistersBeforeAsking { get; init; } = true;

    /// <summary>R06: the oracle is asked after the call began. Off: the last timestamp known here will do.</summary>
    public bool R06AsksTheOracle { get; init; } = true;

    /// <summary>R06: M is above <c>highestRead</c>.</summary>
    public bool R06AboveHighestRead { get; init; } = true;

    /// <summary>R06: M is above the newest version of each key.</summary>
    public bool R06AboveNewestVersion { get; init; } = true;

    /// <summary>R06: asks again rather than pass the oracle's last by more than one.</summary>
    public bool R06AsksAgain { get; init; } = true;

    /// <summary>R07: a read at R raises <c>highestRead</c> to R.</summary>
    public bool R07RaisesHighestRead { get; init; } = true;

    /// <summary>R07: a read at R waits for the registered writes at or below R.</summary>
    public bool R07WaitsForRegistered { get; init; } = true;

    /// <summary>R07: the engine is read after the wait. Off: before it.</summary>
    public bool R07ReadsAfterTheWait { get; init; } = true;

    /// <summary>R07: an R above the oracle's last answer is refused.</summary>
    public bool R07RefusesAheadOfOracle { get; init; } = true;

    /// <summary>R07, R28: limit, range and epoch are checked as of what was read. Off: before it only.</summary>
    public bool R07ChecksAgain { get; init; } = true;

    /// <summary>R08: a plain get waits for the writes registered on its key, open ones too.</summary>
    public bool R08WaitsForRegistered { get; init; } = true;

    /// <summary>R08: a plain get, and a compare-and-set that does not write, needs the lease.</summary>
    public bool R08NeedsLease { get; init; } = true;

    /// <summary>R09: a proposed write stays registered when its caller leaves. Off: it is taken out.</summary>
    public bool R09StaysRegistered { get; init; } = true;

    /// <summary>R09: reads that wait for a write go to the next leader when the leadership is lost. Off: they go on here.</summary>
    public bool R09WaitersMoveOn { get; init; } = true;

    /// <summary>R10: nothing is served before an entry of the own term is applied.</summary>
    public bool R10WaitsForOwnEntry { get; init; } = true;

    /// <summary>R10: <c>highestRead</c> starts at a fresh timestamp.</summary>
    public bool R10StartsAtFreshTimestamp { get; init; } = true;

    /// <summary>R11: what was evaluated in a term is appended in it or not at all.</summary>
    public bool R11SameTerm { get; init; } = true;

    /// <summary>R12: a version above a transaction's start is a conflict.</summary>
    public bool R12ConflictsAboveStart { get; init; } = true;

    /// <summary>R12, R28: what started below the limit may not write.</summary>
    public bool R12StartsAboveLimit { get; init; } = true;

    /// <summary>R13: the closed timestamp stays below registered writes.</summary>
    public bool R13BelowRegistered { get; init; } = true;

    /// <summary>R13: closing raises <c>highestRead</c>.</summary>
    public bool R13RaisesHighestRead { get; init; } = true;

    /// <summary>R14: a repeated prewrite finds its lock and answers the same M. Off: it takes a new one.</summary>
    public bool R14KeepsM { get; init; } = true;

    /// <summary>R14: a prewrite looks for a mark, and for what its transaction wrote here before.</summary>
    public bool R14FindsOwnTraces { get; init; } = true;

    /// <summary>R14: a read that meets a lock with M at or below it does not pass.</summary>
    public bool R14ReadsMeetLocks { get; init; } = true;

    /// <summary>R16: a serializable transaction's reads are validated, as a read at its commit timestamp.</summary>
    public bool R16Validates { get; init; } = true;

    /// <summary>R16: the validation raises <c>highestRead</c>.</summary>
    public bool R16RaisesHighestRead { get; init; } = true;

    /// <summary>R17: a key without the lock gets a durable mark before anybody is told. Off: it is only looked at.</summary>
    public bool R17MarksMissing { get; init; } = true;

    /// <summary>R18: what is older than the horizon is refused.</summary>
    public bool R18RefusesTooOld { get; init; } = true;

    /// <summary>R22: an attempt looks for what an earlier one of its id left.</summary>
    public bool R22FindsOwnTraces { get; init; } = true;

    /// <summary>R28: a read below the limit is refused.</summary>
    public bool R28RefusesBelowLimit { get; init; } = true;
}
