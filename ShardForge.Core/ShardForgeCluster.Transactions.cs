namespace ShardForge;

/// <content>Work that is run again after a transient error.</content>
public sealed partial class ShardForgeCluster
{
    private static readonly TimeSpan s_retryPauseMin = TimeSpan.FromMilliseconds(1), s_retryPauseMax = TimeSpan.FromMilliseconds(32), s_rollbackWaitMax = TimeSpan.FromMilliseconds(200);

    /// <summary>Runs the work in a transaction and commits it; runs it again, in a new one, after an error that is transient, up to <see cref="TransactionOptions.MaxAttempts"/>.</summary>
    /// <typeparam name="T">What the work gives.</typeparam>
    /// <param name="work">Called once an attempt, with that attempt's transaction. It does not commit; what it does besides the transaction may happen more than once.</param>
    /// <param name="options">Isolation, attempts, and the time for all of them together; null: the defaults.</param>
    /// <param name="cancellationToken">Ends it. Cancelled while a commit is in flight: it may happen.</param>
    /// <returns>What the attempt that was committed gave.</returns>
    /// <exception cref="ArgumentOutOfRangeException">An option is out of its range.</exception>
    /// <exception cref="OutcomeUnknownException">A commit may or may not have happened; never run again after it.</exception>
    /// <exception cref="TransactionTimeoutException"><see cref="TransactionOptions.Timeout"/> passed. Nothing was written.</exception>
    /// <exception cref="ShardForgeException">The last error, when the attempts have run out.</exception>
    public async Task<T> RunInTransactionAsync<T>(Func<ShardForgeTransaction, CancellationToken, Task<T>> work,
        TransactionOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(work);
        TransactionOptions checkedOptions = options ?? TransactionOptions.Default;
        checkedOptions.Validate();
        Check(cancellationToken);

        TimeProvider time = _node.Config.TimeProvider;
        long begun = time.GetTimestamp();
        Timestamp? age = null;
        for (int attempt = 1; ; attempt++)
        {
            ShardForgeTransaction? transaction = null;
            try
            {
                // R20: a new id and the same age, so that it is the oldest one day and gets its turn.
                transaction = await BeginAsync(checkedOptions, begun, age, cancellationToken).ConfigureAwait(false);
                age ??= transaction.Inner.Start;
                await using (transaction.ConfigureAwait(false))
                {
                    T result = await work(transaction, cancellationToken).ConfigureAwait(false);
                    await transaction.CommitAsync(cancellationToken).ConfigureAwait(false);
                    return result;
                }
            }
            catch (ShardForgeException error) when (error.IsTransient && attempt < checkedOptions.MaxAttempts)
            {
                // Full jitter under a doubling cap: contenders drift apart instead of meeting again.
                TimeSpan cap = s_retryPauseMin * (1 << Math.Min(attempt, 10));
                TimeSpan pause = (cap < s_retryPauseMax ? cap : s_retryPauseMax) * _node.NextRandom();
                TimeSpan left = checkedOptions.Timeout - time.GetElapsedTime(begun);
                if (left <= pause)
                    throw new TransactionTimeoutException(
                        $"The transaction's time of {checkedOptions.Timeout.TotalSeconds:0.###} s (TransactionOptions.Timeout) was over after {attempt} attempt(s). Nothing was written.", error);
                Task before = transaction?.Inner.Afterwards ?? Task.CompletedTask;
                await _node.PauseAsync(pause, cancellationToken).ConfigureAwait(false);

                // Its own locks would be in its way.
                await WaitShortlyAsync(before, left - pause, cancellationToken).ConfigureAwait(false);
            }
        }
    }

    private static async ValueTask WaitShortlyAsync(Task work, TimeSpan limit, CancellationToken cancellationToken)
    {
        if (work.IsCompleted)
            return;
        try
        {
            await work.WaitAsync(limit < s_rollbackWaitMax ? limit : s_rollbackWaitMax, cancellationToken).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            // The locks are found and ended like anybody's.
        }
    }
}
