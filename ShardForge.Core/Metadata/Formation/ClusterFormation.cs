using System.Net;
using Microsoft.Extensions.Logging;
using ShardForge.Network;

namespace ShardForge.Metadata.Formation;

/// <summary>Runs a <see cref="FormationMachine"/>: asks the other initial members, answers them, writes the record.</summary>
/// <remarks>
/// One loop per other member, so that one that is down holds up nobody. Between two questions it waits 10 ms, doubling to 250 ms, or until the machine wants
/// the member asked at once; real time, so that a frozen test clock does not stop a formation.
/// <para>Threads: safe for concurrent use. The machine is under the lock; effects are carried out outside of it, the record's by one task.</para></remarks>
internal sealed class ClusterFormation : IAsyncDisposable
{
    private static readonly TimeSpan s_askTimeout = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan s_pauseMin = TimeSpan.FromMilliseconds(10);
    private static readonly TimeSpan s_pauseMax = TimeSpan.FromMilliseconds(250);

    private readonly FormationSettings _settings;
    private readonly IMetadataLink? _link;
    private readonly Func<ClusterState, Task> _saveRecord;
    private readonly ILogger _logger;
    private readonly Lock _gate = new();
    private readonly FormationMachine _machine;
    private readonly Dictionary<string, SemaphoreSlim> _wanted = new(StringComparer.Ordinal);
    private readonly TaskCompletionSource<ClusterState> _completed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly CancellationTokenSource _stop = new();
    private Task _recording = Task.CompletedTask;
    private Task _asking = Task.CompletedTask;

    /// <param name="settings">As the node was configured.</param>
    /// <param name="record">What its disk holds; null: nothing.</param>
    /// <param name="link">To the other members; null: there are none.</param>
    /// <param name="saveRecord">Makes the record durable.</param>
    /// <param name="logger">For changes of state.</param>
    public ClusterFormation(FormationSettings settings, ClusterState? record, IMetadataLink? link, Func<ClusterState, Task> saveRecord, ILogger logger)
    {
        _settings = settings;
        _link = link;
        _saveRecord = saveRecord;
        _logger = logger;
        _machine = new(settings, record);
        foreach (string member in settings.Members.Keys)
        {
            if (!string.Equals(member, settings.NodeId, StringComparison.Ordinal))
                _wanted.Add(member, new SemaphoreSlim(0));
        }

        if (record is not null)
            _completed.SetResult(record);
    }

    /// <summary>The formation record, durable here. Fails with <see cref="ConfigurationException"/> where the node cannot become a member.</summary>
    public Task<ClusterState> Completed => _completed.Task;

    /// <summary>Begins to ask. A node that is alone only writes its record.</summary>
    public void Start()
    {
        Step(static (machine, effects) => machine.Start(effects));
        lock (_gate)
        {
            if (_machine.Phase == FormationPhase.Asking)
                _asking = Task.WhenAll(_wanted.Select(member => AskAgainAndAgainAsync(member.Key, member.Value)));
        }
    }

    /// <summary>Answers a question of another node.</summary>
    public async ValueTask<FormationView> AnswerAsync(FormationView question, CancellationToken cancellationToken)
    {
        Step((machine, effects) => machine.OnQuestion(question, effects));
        // Nothing is said of a record before it is durable.
        Task recording;
        lock (_gate)
            recording = _recording;
        await recording.WaitAsync(cancellationToken).ConfigureAwait(false);
        lock (_gate)
            return _machine.AnswerTo(question);
    }

    /// <summary>Tells what the cluster is like now, for judging who asks.</summary>
    public void SetCurrent(ClusterState state)
    {
        lock (_gate)
            _machine.Current = state;
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await _asking.ConfigureAwait(false);
        await _recording.ConfigureAwait(false);
        _completed.TrySetException(new ObjectDisposedException(nameof(ShardForge), $"Node {_settings.NodeId} was stopped before its cluster was formed."));
        // Nobody may have waited for it.
        _ = _completed.Task.Exception;
    }

    private async Task AskAgainAndAgainAsync(string member, SemaphoreSlim wanted)
    {
        EndPoint address = EndPointText.Parse(_settings.Members[member])!;
        TimeSpan pause = s_pauseMin;
        try
        {
            while (true)
            {
                FormationView question;
                FormationPhase phase;
                lock (_gate)
                {
                    question = _machine.Question();
                    phase = _machine.Phase;
                }

                if (phase == FormationPhase.Refused)
                    return;
                if (phase != FormationPhase.Recording)
                    await AskAsync(member, address, question).ConfigureAwait(false);
                // The former asks once more when it has formed, so that the others ask it at once; everybody else is done.
                if (phase == FormationPhase.Formed)
                    return;
                pause = await wanted.WaitAsync(pause, _stop.Token).ConfigureAwait(false) ? s_pauseMin : pause * 2 < s_pauseMax ? pause * 2 : s_pauseMax;
                lock (_gate)
                {
                    if (_machine.Phase == FormationPhase.Formed && !IsFormer())
                        return;
                }
            }
        }
        catch (OperationCanceledException) when (_stop.IsCancellationRequested)
        {
            // Stopped.
        }
        catch (Exception error)
        {
            _completed.TrySetException(error);
        }
    }

    private bool IsFormer() => !_settings.Members.Keys.Any(member => string.CompareOrdinal(member, _settings.NodeId) < 0);

    private async Task AskAsync(string member, EndPoint address, FormationView question)
    {
        try
        {
            byte[] answer = await _link!.AskAddressAsync(address, question.Encode(), s_askTimeout, _stop.Token).ConfigureAwait(false);
            if (FormationMessage.Decode(answer) is FormationView view)
                Step((machine, effects) => machine.OnAnswer(member, view, effects));
        }
        catch (PeerUnavailableException error) when (error.InnerException is PeerRefusedException { Code: RefusalCode.WrongCluster } refused)
        {
            Step((machine, effects) => machine.OnWrongCluster(member, refused.Message, effects));
        }
        catch (ShardForgeException error) when (error is PeerUnavailableException or OverloadedException)
        {
            // Not there, or not yet: asked again.
        }
        catch (InvalidDataException error)
        {
            MetadataLog.AnswerNotUnderstood(_logger, _settings.NodeId, member, error);
        }
    }

    private void Step(Action<FormationMachine, List<FormationEffect>> input)
    {
        List<FormationEffect> effects = [];
        TaskCompletionSource? recorded = null;
        lock (_gate)
        {
            input(_machine, effects);
            // Set before the lock is left: whoever asks from now on is answered after the record is durable.
            if (effects.Exists(effect => effect is RecordEffect))
            {
                recorded = new(TaskCreationOptions.RunContinuationsAsynchronously);
                _recording = recorded.Task;
            }
        }

        foreach (FormationEffect effect in effects)
        {
            if (effect is AskEffect ask)
            {
                _wanted[ask.NodeId].Release();
            }
            else if (effect is RecordEffect record)
            {
                _ = RecordAsync(record.Record, recorded!);
            }
            else if (effect is RefuseEffect refuse)
            {
                MetadataLog.Refused(_logger, _settings.NodeId, refuse.Reason);
                _completed.TrySetException(FormationErrors.RefusedAtFormation(refuse.Refusal, _settings.NodeId, refuse.Reason));
            }
        }
    }

    /// <summary>Never fails; <see cref="DisposeAsync"/> waits for it by <c>_recording</c>.</summary>
    private async Task RecordAsync(ClusterState record, TaskCompletionSource recorded)
    {
        try
        {
            await _saveRecord(record).ConfigureAwait(false);
        }
        catch (Exception error)
        {
            // The node stays as it is for this run, and answers nobody; what is on the disk decides at the next.
            _completed.TrySetException(error);
            recorded.SetResult();
            return;
        }

        Step(static (machine, effects) => machine.OnRecorded(effects));
        recorded.SetResult();
        MetadataLog.Formed(_logger, _settings.NodeId, record.ClusterName, record.ClusterId, record.Nodes.Count, record.Shards.Count);
        _completed.TrySetResult(record);
    }
}
