namespace ShardForge.Replication;

/// <summary>Whom a critical section found to be woken; they are woken after it.</summary>
internal sealed class ReleasedWaiters
{
    /// <summary>Hold all their keys now.</summary>
    public List<RegisteredWrite> Granted { get; } = [];

    /// <summary>Waited for keys when the leadership was lost.</summary>
    public List<RegisteredWrite> Refused { get; } = [];

    /// <summary>Have nothing left to wait for.</summary>
    public List<ReadWaiter> Reads { get; } = [];

    /// <summary>Waited when the leadership was lost.</summary>
    public List<ReadWaiter> LostReads { get; } = [];

    /// <summary>Applied.</summary>
    public List<PendingCommand> Applied { get; } = [];

    /// <summary>Will never be in the log.</summary>
    public List<PendingCommand> NotWritten { get; } = [];

    /// <summary>Cannot be told.</summary>
    public List<PendingCommand> Unknown { get; } = [];

    /// <summary>The replica stopped.</summary>
    public List<PendingCommand> Stopped { get; } = [];

    /// <summary>A leadership that ended.</summary>
    public LeaderState? Lost { get; set; }

    /// <summary>Wakes them. Never under a lock: a stranger's code may run here.</summary>
    public void Wake()
    {
        Lost?.CompleteServing(serving: false);
        Complete(Applied, CommandFate.Applied);
        Complete(NotWritten, CommandFate.NotWritten);
        Complete(Unknown, CommandFate.Unknown);
        Complete(Stopped, CommandFate.Stopped);
        foreach (ReadWaiter read in Reads)
            read.Complete(reached: true);
        foreach (ReadWaiter read in LostReads)
            read.Complete(reached: false);
        foreach (RegisteredWrite write in Granted)
            write.CompleteTurn(granted: true);
        foreach (RegisteredWrite write in Refused)
            write.CompleteTurn(granted: false);
    }

    private static void Complete(List<PendingCommand> commands, CommandFate fate)
    {
        foreach (PendingCommand command in commands)
            command.Complete(fate);
    }
}
