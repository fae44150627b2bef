namespace ShardForge.Consensus;

/// <summary>Holds back what a group feeds until its state machine knows the group: a group feeds from the moment it is opened, before whoever opened it has it in hand.</summary>
/// <remarks>Threads: as of <see cref="IRaftStateMachine"/>. Status changes are passed on under the lock, so that a held one never comes after a newer one.</remarks>
internal sealed class StateMachineGate(IRaftStateMachine inner) : IRaftStateMachine
{
    private readonly Lock _gate = new();
    private readonly TaskCompletionSource _opened = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private RaftStatus? _held;
    private bool _isOpen;

    public LogIndex RecoveredIndex => inner.RecoveredIndex;

    /// <summary>The state machine knows its group from now on.</summary>
    public void Open()
    {
        lock (_gate)
        {
            _isOpen = true;
            if (_held is { } held)
                inner.OnStatusChanged(held);
        }

        _opened.TrySetResult();
    }

    public async ValueTask ApplyAsync(ReadOnlyMemory<CommittedEntry> entries, CancellationToken cancellationToken)
    {
        await _opened.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
        await inner.ApplyAsync(entries, cancellationToken).ConfigureAwait(false);
    }

    public void OnStatusChanged(RaftStatus status)
    {
        lock (_gate)
        {
            if (_isOpen)
                inner.OnStatusChanged(status);
            else
                _held = status;
        }
    }

    public ValueTask<LogIndex> WriteSnapshotAsync(string directory, CancellationToken cancellationToken) => inner.WriteSnapshotAsync(directory, cancellationToken);

    public string GetGenerationDirectory(long generation) => inner.GetGenerationDirectory(generation);

    public async ValueTask InstallSnapshotAsync(long generation, LogIndex index, CancellationToken cancellationToken)
    {
        await _opened.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
        await inner.InstallSnapshotAsync(generation, index, cancellationToken).ConfigureAwait(false);
    }
}
