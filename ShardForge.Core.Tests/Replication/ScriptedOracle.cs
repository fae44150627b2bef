using ShardForge.Replication;

namespace ShardForge.Tests.Replication;

/// <summary>An oracle whose answers a script holds back. Every answer is above the one before.</summary>
internal sealed class ScriptedOracle
{
    private readonly Lock _gate = new();
    private readonly List<(ScriptedTimestampSource Source, TaskCompletionSource<Timestamp> Answer)> _asking = [];

    /// <summary>Highest timestamp given to anybody.</summary>
    public Timestamp Last { get; private set; }

    /// <summary>True: whoever asks waits for <see cref="Answer"/>.</summary>
    public bool Holds { get; set; }

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
        while (count is null or > 0)
        {
            (ScriptedTimestampSource Source, TaskCompletionSource<Timestamp> Answer) next;
            Timestamp timestamp;
            lock (_gate)
            {
                if (_asking.Count == 0)
                    return;
                next = _asking[0];
                _asking.RemoveAt(0);
                timestamp = TakeLocked(next.Source);
            }

            next.Answer.TrySetResult(timestamp);
            count--;
        }
    }

    public ITimestampSource CreateSource() => new ScriptedTimestampSource(this);

    internal ValueTask<Timestamp> NextAsync(ScriptedTimestampSource source, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        TaskCompletionSource<Timestamp> answer = new();
        lock (_gate)
        {
            if (!Holds)
                return new(TakeLocked(source));
            _asking.Add((source, answer));
        }

        return new(answer.Task.WaitAsync(cancellationToken));
    }

    private Timestamp TakeLocked(ScriptedTimestampSource source)
    {
        Last = Last.Next;
        source.Learn(Last);
        return Last;
    }
}

/// <summary>One node's way to a <see cref="ScriptedOracle"/>.</summary>
internal sealed class ScriptedTimestampSource(ScriptedOracle oracle) : ITimestampSource
{
    private ulong _lastKnown;

    public Timestamp LastKnown => new(Interlocked.Read(ref _lastKnown));

    public ValueTask<Timestamp> NextAsync(CancellationToken cancellationToken) => oracle.NextAsync(this, cancellationToken);

    public void Learn(Timestamp timestamp) => Interlocked.Exchange(ref _lastKnown, timestamp.Value);
}
