using ShardForge.Replication;

namespace ShardForge.Tests.Replication;

/// <summary>An oracle whose answers a script holds back. Every answer is above the one before.</summary>
internal sealed class ScriptedOracle
{
    private readonly Lock _gate = new();
    private readonly List<Asking> _asking = [];

    /// <summary>Highest timestamp given to anybody.</summary>
    public Timestamp Last { get; private set; }

    /// <summary>True: whoever asks waits for <see cref="Answer"/>.</summary>
    public bool Holds { get; set; }

    /// <summary>True: an answer that is held is already chosen, and only late. False: it is chosen when it is given.</summary>
    public bool ChoosesWhenAsked { get; set; }

    public int AskingCount
    {
        get
        {
            lock (_gate)
                return _asking.Count;
        }
    }

    /// <summary>The next answer will be at least this.</summary>
    public void AdvanceTo(Timestamp next)
    {
        lock (_gate)
            Last = Timestamp.Later(Last, next.Previous);
    }

    /// <summary>Answers those that wait, in the order in which they asked.</summary>
    /// <param name="count">How many; null: all.</param>
    public void Answer(int? count = null)
    {
        for (; count is null or > 0 && AskingCount > 0; count--)
        {
            if (AskingCount == 0)
                return;
            AnswerOne(place: 0);
        }
    }

    /// <summary>Answers one of those that wait.</summary>
    /// <param name="place">Which, counted from 0 in the order in which they asked.</param>
    public void AnswerOne(int place)
    {
        Asking asking;
        Timestamp timestamp;
        lock (_gate)
        {
            asking = _asking[place];
            _asking.RemoveAt(place);
            timestamp = asking.Chosen ?? TakeLocked();
        }

        asking.Source.Learn(timestamp);
        asking.Answer.TrySetResult(timestamp);
    }

    /// <summary>An answer at once, whoever else waits.</summary>
    public Timestamp Take()
    {
        lock (_gate)
            return TakeLocked();
    }

    public ITimestampSource CreateSource() => new ScriptedTimestampSource(this);

    internal ValueTask<Timestamp> NextAsync(ScriptedTimestampSource source, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        TaskCompletionSource<Timestamp> answer = new();
        lock (_gate)
        {
            if (!Holds)
            {
                source.Learn(TakeLocked());
                return new(Last);
            }

            _asking.Add(new Asking(source, answer, ChoosesWhenAsked ? TakeLocked() : null));
        }

        return new(answer.Task.WaitAsync(cancellationToken));
    }

    private Timestamp TakeLocked() => Last = Last.Next;

    private sealed record Asking(ScriptedTimestampSource Source, TaskCompletionSource<Timestamp> Answer, Timestamp? Chosen);
}

/// <summary>One node's way to a <see cref="ScriptedOracle"/>.</summary>
internal sealed class ScriptedTimestampSource(ScriptedOracle oracle) : ITimestampSource
{
    private ulong _lastKnown;

    public Timestamp LastKnown => new(Interlocked.Read(ref _lastKnown));

    public ValueTask<Timestamp> NextAsync(CancellationToken cancellationToken) => oracle.NextAsync(this, cancellationToken);

    public void Learn(Timestamp timestamp)
    {
        // Answers can come in another order than they were given.
        ulong known = Interlocked.Read(ref _lastKnown);
        while (known < timestamp.Value && Interlocked.CompareExchange(ref _lastKnown, timestamp.Value, known) is { } seen && seen != known)
            known = seen;
    }
}
