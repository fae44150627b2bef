namespace ShardForge.Replication;

/// <summary>Whom a critical section found to be woken; they are woken after it.</summary>
internal sealed class ReleasedWaiters
{
    private readonly List<(PendingCommand Command, CommandFate Fate)> _ended = [];

    /// <summary>Hold all their keys now.</summary>
    public List<RegisteredWrite> Granted { get; } = [];

    /// <summary>Waited for keys when the leadership was lost.</summary>
    public List<RegisteredWrite> Refused { get; } = [];

    /// <summary>Have nothing left to wait for.</summary>
    public List<ReadWaiter> Reads { get; } = [];

    /// <summary>Waited when the leadership was lost.</summary>
    public List<ReadWaiter> LostReads { get; } = [];

    /// <summary>A leadership that ended.</summary>
    public LeaderState? Lost { get; set; }

    /// <summary>A command whose fate is known.</summary>
    public void Add(PendingCommand command, CommandFate fate) => _ended.Add((command, fate));

    /// <summary>Wakes them. Never under a lock: a stranger's code may run here.</summary>
    public void Wake()
    {
        Lost?.CompleteServing(serving: false);
        foreach ((PendingCommand command, CommandFate fate) in _ended)
            command.Complete(fate);
        foreach (ReadWaiter read in Reads)
            read.Complete(reached: true);
        foreach (ReadWaiter read in LostReads)
            read.Complete(reached: false);
        foreach (RegisteredWrite write in Granted)
            write.CompleteTurn(granted: true);
        foreach (RegisteredWrite write in Refused)
            write.CompleteTurn(granted: false);
    }
}
