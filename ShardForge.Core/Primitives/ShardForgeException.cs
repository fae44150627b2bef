namespace ShardForge;

/// <summary>What every error of the library derives from.</summary>
/// <remarks>Every message says what failed, where (node, shard, key prefix in hex), and what became of the data.</remarks>
public class ShardForgeException : Exception
{
    /// <summary>Creates the error.</summary>
    /// <param name="message">What failed, where, and what became of the data.</param>
    /// <param name="isTransient">True: nothing was written, and the same call may succeed later.</param>
    /// <param name="innerException">The cause, if another error is it.</param>
    public ShardForgeException(string message, bool isTransient = false, Exception? innerException = null)
        : base(message, innerException) => IsTransient = isTransient;

    /// <summary>True: nothing was written, and the same call may succeed later.</summary>
    public bool IsTransient { get; }
}

/// <summary>Another transaction wrote, or holds, what this one reads or writes. Nothing was written; transient.</summary>
public sealed class TransactionConflictException : ShardForgeException
{
    /// <summary>Creates the error.</summary>
    /// <param name="message">The key (hex prefix) and the transaction it conflicts with.</param>
    /// <param name="innerException">The cause, if another error is it.</param>
    public TransactionConflictException(string message, Exception? innerException = null) : base(message, isTransient: true, innerException) { }
}

/// <summary>No leader of the shard could be reached in time. Nothing was written; transient.</summary>
public sealed class ShardUnavailableException : ShardForgeException
{
    /// <summary>Creates the error.</summary>
    /// <param name="message">The shard, the node asked last and what it answered.</param>
    /// <param name="innerException">The cause, if another error is it.</param>
    public ShardUnavailableException(string message, Exception? innerException = null) : base(message, isTransient: true, innerException) { }
}

/// <summary>A bounded queue is full. Nothing was written; transient.</summary>
public sealed class OverloadedException : ShardForgeException
{
    /// <summary>Creates the error.</summary>
    /// <param name="message">The queue, its limit and what is in it.</param>
    /// <param name="innerException">The cause, if another error is it.</param>
    public OverloadedException(string message, Exception? innerException = null) : base(message, isTransient: true, innerException) { }
}

/// <summary><see cref="P:ShardForge.TransactionOptions.Timeout"/> passed before the commit. Nothing was written; not transient.</summary>
public sealed class TransactionTimeoutException : ShardForgeException
{
    /// <summary>Creates the error.</summary>
    /// <param name="message">The timeout and how far the transaction came.</param>
    /// <param name="innerException">The cause, if another error is it.</param>
    public TransactionTimeoutException(string message, Exception? innerException = null) : base(message, isTransient: false, innerException) { }
}

/// <summary>The write may or may not have happened. Read before trying again; not transient.</summary>
public sealed class OutcomeUnknownException : ShardForgeException
{
    /// <summary>Creates the error.</summary>
    /// <param name="message">What was in flight, and to whom.</param>
    /// <param name="innerException">The cause, if another error is it.</param>
    public OutcomeUnknownException(string message, Exception? innerException = null) : base(message, isTransient: false, innerException) { }

    /// <summary>Finds out, on the node that threw it; null: it cannot.</summary>
    internal Func<CancellationToken, Task<bool>>? Resolver { get; init; }

    /// <summary>Finds out what became of the write, once its shard can be reached again. Where it has not happened, it never will after this.</summary>
    /// <param name="cancellationToken">Ends the wait; ask again later.</param>
    /// <returns>True: it happened. False: nothing was written, and nothing will be.</returns>
    /// <exception cref="ShardUnavailableException">The shard was not reached in time; ask again.</exception>
    /// <exception cref="OutcomeUnknownException">Nobody can tell any more: the traces of the write are kept for the history window (10 minutes), or the error was made by hand.</exception>
    public Task<bool> ResolveAsync(CancellationToken cancellationToken = default) =>
        Resolver is { } resolver ? resolver(cancellationToken) : Task.FromException<bool>(new OutcomeUnknownException("This error knows no write that could be looked for.", this));
}

/// <summary>A read is as of a moment before the history that is kept. Nothing was written; not transient.</summary>
public sealed class HistoryGoneException : ShardForgeException
{
    /// <summary>Creates the error.</summary>
    /// <param name="message">The moment, and from when on history is kept.</param>
    /// <param name="innerException">The cause, if another error is it.</param>
    public HistoryGoneException(string message, Exception? innerException = null) : base(message, isTransient: false, innerException) { }
}

/// <summary>Something is over a limit. Nothing was written; not transient.</summary>
public sealed class LimitExceededException : ShardForgeException
{
    /// <summary>Creates the error.</summary>
    /// <param name="limit">Name of the limit, a setting of <see cref="Limits"/>.</param>
    /// <param name="maximum">The limit, in its unit.</param>
    /// <param name="actual">What was given, in the same unit.</param>
    /// <param name="message">What is over the limit; null: built from the other arguments.</param>
    public LimitExceededException(string limit, long maximum, long actual, string? message = null)
        : base(message ?? $"{actual:N0} is over the limit of {maximum:N0} ({limit}). Nothing was written.")
    {
        Limit = limit;
        Maximum = maximum;
        Actual = actual;
    }

    /// <summary>Name of the limit, a setting of <see cref="Limits"/>.</summary>
    public string Limit { get; }

    /// <summary>The limit, in its unit.</summary>
    public long Maximum { get; }

    /// <summary>What was given, in the same unit.</summary>
    public long Actual { get; }
}

/// <summary>Bytes on disk or on the wire are not what was written there. Not transient.</summary>
public sealed class CorruptionException : ShardForgeException
{
    /// <summary>Creates the error.</summary>
    /// <param name="path">The file, or the link.</param>
    /// <param name="offset">Where in it the damaged record, block or frame starts, in bytes.</param>
    /// <param name="reason">What does not fit: which checksum, stored and computed.</param>
    /// <param name="innerException">The cause, if another error is it.</param>
    public CorruptionException(string path, long offset, string reason, Exception? innerException = null)
        : base($"Damage at offset {offset:N0} of {path}: {reason}", isTransient: false, innerException)
    {
        Path = path;
        Offset = offset;
    }

    /// <summary>The file, or the link.</summary>
    public string Path { get; }

    /// <summary>Where in it the damaged record, block or frame starts, in bytes.</summary>
    public long Offset { get; }
}

/// <summary>A setting cannot be used. Nothing on disk was changed; not transient.</summary>
public sealed class ConfigurationException : ShardForgeException
{
    /// <summary>Creates the error.</summary>
    /// <param name="setting">The setting's name, e.g. <c>DataDirectory</c>.</param>
    /// <param name="message">What is wrong with it and which values are allowed.</param>
    /// <param name="innerException">The cause, if another error is it.</param>
    public ConfigurationException(string setting, string message, Exception? innerException = null)
        : base(message, isTransient: false, innerException) => Setting = setting;

    /// <summary>The setting's name, e.g. <c>DataDirectory</c>.</summary>
    public string Setting { get; }
}
