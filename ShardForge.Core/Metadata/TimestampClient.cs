using ShardForge.Common;
using ShardForge.Replication;

namespace ShardForge.Metadata;

/// <summary>Gets timestamps for everybody on this node (R02): from the oracle at once where it is here and can, else with one request for all who wait.</summary>
/// <remarks>
/// <code>
/// callers → waiting → [one request in flight] → each its own timestamp, in the order in which they came
/// </code>
/// Who comes while a request is in flight waits for the next: only a request that is not sent yet may be joined, since an answer in flight may be
/// lower than a commit that was acknowledged before the caller asked. A request that failed is not sent again: all who wait by then go into a new one.
/// <para>A caller waits until its token ends; there is no bound here, since every caller has a deadline.</para>
/// <para>Threads: safe for concurrent use. One loop at a time, which runs while somebody waits.</para></remarks>
internal sealed class TimestampClient(ITimestampSender sender, Func<Timestamp?> oldestOpenSnapshot) : ITimestampSource, IAsyncDisposable
{
    /// <summary>Waiters of one request up to which the next one leaves at once, for the sake of its latency.</summary>
    private const int LoneWaitersMax = 1;

    /// <summary>Timestamps of one request, at most.</summary>
    private const int BatchMax = 4_096;

    private static readonly TimeSpan s_pauseMin = TimeSpan.FromMilliseconds(2);
    private static readonly TimeSpan s_pauseMax = TimeSpan.FromMilliseconds(100);

    private readonly ITimestampSender _sender = sender;
    private readonly Func<Timestamp?> _oldestOpenSnapshot = oldestOpenSnapshot;
    private readonly CancellationTokenSource _stop = new();
    private readonly Lock _gate = new();
    private readonly Queue<Waiter> _waiting = new();

    /// <summary>Not null while the loop runs; completed when it ends.</summary>
    private TaskCompletionSource? _running;
    private bool _stopped;
    private ulong _lastKnown;

    public Timestamp LastKnown => new(Volatile.Read(ref _lastKnown));

    public ValueTask<Timestamp> NextAsync(CancellationToken cancellationToken)
    {
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled<Timestamp>(cancellationToken);
        if (_sender.TryNext(out Timestamp timestamp))
        {
            Learn(timestamp);
            return new(timestamp);
        }

        return new(WaitAsync(cancellationToken));
    }

    public async ValueTask DisposeAsync()
    {
        Task running;
        lock (_gate)
        {
            _stopped = true;
            running = _running?.Task ?? Task.CompletedTask;
        }

        await _stop.CancelAsync().ConfigureAwait(false);
        await running.ConfigureAwait(false);
    }

    private Task<Timestamp> WaitAsync(CancellationToken cancellationToken)
    {
        Waiter waiter = new(cancellationToken);
        bool start;
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_stopped, this);
            _waiting.Enqueue(waiter);
            start = _running is null;
            _running ??= new(TaskCreationOptions.RunContinuationsAsynchronously);
        }

        if (start)
            _ = RunAsync();

        return waiter.Answered.Task.WaitAsync(cancellationToken);
    }

    /// <summary>Never fails; <see cref="DisposeAsync"/> waits for it by <c>_running</c>.</summary>
    private async Task RunAsync()
    {
        TimeSpan pause = s_pauseMin;
        List<Waiter> batch = [];
        while (true)
        {
            TaskCompletionSource? ended = null;
            lock (_gate)
            {
                TakeBatchLocked(batch);
                if (batch.Count == 0)
                {
                    ended = _running;
                    _running = null;
                }
            }

            if (ended is not null)
            {
                ended.SetResult();
                return;
            }

            Timestamp? first = null;
            Exception? failure = null;
            try
            {
                first = await _sender.RequestAsync(batch.Count, _oldestOpenSnapshot() ?? LastKnown, _stop.Token).ConfigureAwait(false);
                if (first is null)
                    await _sender.PauseAsync(pause, _stop.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (_stop.IsCancellationRequested)
            {
                failure = new ObjectDisposedException(nameof(ShardForge), "The node was stopped before it got a timestamp.");
            }
            catch (Exception error)
            {
                failure = error;
            }

            if (failure is not null)
            {
                FailAll(batch, failure);
                return;
            }

            if (first is { } timestamp)
            {
                pause = s_pauseMin;
                Learn(new(timestamp.Value + (ulong)batch.Count - 1));
                bool isBusy = batch.Count > LoneWaitersMax;
                for (int i = 0; i < batch.Count; i++)
                    batch[i].Answered.TrySetResult(new(timestamp.Value + (ulong)i));
                batch.Clear();

                // Those who are about to ask are in the pool's queue: behind them, one request serves them all.
                if (isBusy)
                    await PoolTurn.Wait();
            }
            else
            {
                pause = pause * 2 < s_pauseMax ? pause * 2 : s_pauseMax;
            }
        }
    }

    /// <summary>Fills the batch, which may hold those of a failed request, with who waits; leaves out who has given up.</summary>
    private void TakeBatchLocked(List<Waiter> batch)
    {
        batch.RemoveAll(static waiter => waiter.CancellationToken.IsCancellationRequested);
        while (batch.Count < BatchMax && _waiting.TryDequeue(out Waiter? waiter))
        {
            if (!waiter.CancellationToken.IsCancellationRequested)
                batch.Add(waiter);
        }
    }

    private void FailAll(List<Waiter> batch, Exception failure)
    {
        TaskCompletionSource ended;
        lock (_gate)
        {
            batch.AddRange(_waiting);
            _waiting.Clear();
            ended = _running!;
            _running = null;
        }

        foreach (Waiter waiter in batch)
        {
            waiter.Answered.TrySetException(failure);
            _ = waiter.Answered.Task.Exception;         // its caller may have given up
        }

        ended.SetResult();
    }

    private void Learn(Timestamp timestamp)
    {
        ulong known = Volatile.Read(ref _lastKnown);
        while (known < timestamp.Value)
        {
            ulong seen = Interlocked.CompareExchange(ref _lastKnown, timestamp.Value, known);
            if (seen == known)
                return;
            known = seen;
        }
    }

    private sealed class Waiter(CancellationToken cancellationToken)
    {
        public CancellationToken CancellationToken { get; } = cancellationToken;

        public TaskCompletionSource<Timestamp> Answered { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}

/// <summary>The way to the oracle.</summary>
internal interface ITimestampSender
{
    /// <summary>A fresh timestamp, where the oracle is on this node and can give one at once.</summary>
    bool TryNext(out Timestamp timestamp);

    /// <summary>Asks the leader for a row of fresh timestamps, once.</summary>
    /// <returns>The first of them; null: no answer, or it was not the leader. Ask again, later or elsewhere.</returns>
    ValueTask<Timestamp?> RequestAsync(int count, Timestamp oldestOpenSnapshot, CancellationToken cancellationToken);

    /// <summary>Waits before the next attempt: so long in real time (a frozen test clock must not stop it), or until more is known of the leader.</summary>
    Task PauseAsync(TimeSpan pause, CancellationToken cancellationToken);
}
