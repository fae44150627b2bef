namespace ShardForge.Metadata.Formation;

/// <summary>Decides how an empty node becomes a member: forms the cluster, or takes the record of one that is formed (R37). No clock, disk, network or randomness.</summary>
/// <remarks>
/// <para>Every unformed node asks every other initial member, again and again, and answers their questions. The member with the smallest id, the
/// <em>former</em>, makes the record once each of the others has answered "empty" to a question of its present run. The record lists every member with the
/// instance that answered. It is durable at the former before anyone is told; whoever takes it from a member has it durable before it says that it is formed.</para>
/// <para>Why there are no two clusters. A former that has made a record has it on its disk, so a second record means that the first former's directory is
/// gone. What the first record can have served needs a majority, so another member has it: it took it before the second former asked it, and
/// answers "formed", or after it had answered "empty" to the second one. But then the first of those who took it so late took it from the first former itself, whose
/// instance it knew to be superseded, and from such a one nothing is taken. If only the former had the record, nothing was ever served under it.</para>
/// <para>A crash before the record is durable leaves an empty node, which starts again; a crash after it leaves a member. There is nothing between.</para>
/// <para>Threads: none; the owner's lock.</para></remarks>
internal sealed class FormationMachine
{
    private readonly FormationSettings _settings;
    private readonly string[] _members;
    private readonly Dictionary<string, FormationView> _empty = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Guid> _instances = new(StringComparer.Ordinal);
    private readonly HashSet<Guid> _superseded = [];

    /// <param name="settings">As the node was configured.</param>
    /// <param name="record">What its disk holds; null: nothing.</param>
    public FormationMachine(FormationSettings settings, ClusterState? record)
    {
        _settings = settings;
        _members = [.. settings.Members.Keys.Order(StringComparer.Ordinal)];
        Invariant.Require(_members.Contains(settings.NodeId, StringComparer.Ordinal));
        Record = record;
        Current = record;
        Phase = record is null ? FormationPhase.Asking : FormationPhase.Formed;
    }

    public FormationPhase Phase { get; private set; }

    /// <summary>The formation record, once it is decided; durable once <see cref="Phase"/> is <see cref="FormationPhase.Formed"/>.</summary>
    public ClusterState? Record { get; private set; }

    /// <summary>The latest state that this node knows, for judging who asks.</summary>
    public ClusterState? Current { get; set; }

    /// <summary>Whether this node is the one that forms.</summary>
    private bool IsFormer => string.Equals(_members[0], _settings.NodeId, StringComparison.Ordinal);

    /// <summary>Begins: an unformed node asks everyone; one that is alone forms at once.</summary>
    public void Start(List<FormationEffect> effects)
    {
        if (Phase != FormationPhase.Asking)
            return;
        AskOthers(effects);
        FormIfComplete(effects);
    }

    /// <summary>A question came in. What is answered is <see cref="AnswerTo"/>, after the effects were carried out.</summary>
    public void OnQuestion(FormationView view, List<FormationEffect> effects)
    {
        if (Phase != FormationPhase.Asking || !IsOfThisCluster(view) || !IsMember(view.NodeId) || !Observe(view))
            return;
        // A question proves nothing (it may be old), but it is a reason to ask: a formed member has the record, an empty one may be the last that is missing.
        if (view.Standing == FormationStanding.Formed || (IsFormer && !_empty.ContainsKey(view.NodeId)))
            effects.Add(new AskEffect(view.NodeId));
    }

    /// <summary>An answer to a question of this run came in.</summary>
    /// <param name="asked">The member whose address was asked.</param>
    /// <param name="view">What was answered.</param>
    /// <param name="effects">Gets what is to be done.</param>
    public void OnAnswer(string asked, FormationView view, List<FormationEffect> effects)
    {
        if (Phase != FormationPhase.Asking)
            return;
        if (!IsOfThisCluster(view))
        {
            Refuse(FormationRefusal.OtherCluster, $"the node at the address of {asked} ({_settings.Members[asked]}) is of cluster '{view.ClusterName}', this one of '{_settings.ClusterName}'", effects);
            return;
        }

        if (!string.Equals(asked, view.NodeId, StringComparison.Ordinal))
        {
            Refuse(FormationRefusal.WrongNode, $"at the address of {asked} ({_settings.Members[asked]}) answers node {view.NodeId}", effects);
            return;
        }

        if (!Observe(view))
            return;
        if (view.Refusal != FormationRefusal.None)
        {
            Refuse(view.Refusal, $"{view.NodeId} says so of {_settings.NodeId} with the data directory {_settings.InstanceId}", effects);
            return;
        }

        // It said empty once, perhaps; what counts is what it says now.
        _empty.Remove(view.NodeId);
        switch (view.Standing)
        {
            case FormationStanding.Formed when view.Record is not null:
                Take(view.Record, effects);
                break;
            case FormationStanding.Empty or FormationStanding.Refused when !view.Members.SequenceEqual(_members, StringComparer.Ordinal):
                Refuse(FormationRefusal.OtherMembers, $"{view.NodeId} lists {string.Join(", ", view.Members)}, this node {string.Join(", ", _members)}", effects);
                break;
            case FormationStanding.Empty:
                _empty.Add(view.NodeId, view);
                FormIfComplete(effects);
                break;
            default:
                break;
        }
    }

    /// <summary>The handshake with a member's address failed: another cluster is there.</summary>
    public void OnWrongCluster(string asked, string reason, List<FormationEffect> effects)
    {
        if (Phase == FormationPhase.Asking)
            Refuse(FormationRefusal.OtherCluster, $"at the address of {asked} ({_settings.Members[asked]}): {reason}", effects);
    }

    /// <summary>The record of <see cref="RecordEffect"/> is durable.</summary>
    public void OnRecorded(List<FormationEffect> effects)
    {
        Invariant.Require(Phase == FormationPhase.Recording);
        Phase = FormationPhase.Formed;
        Current ??= Record;
        // The others ask on their own; being asked by a member they do it at once.
        if (IsFormer)
            AskOthers(effects);
    }

    /// <summary>What this node asks with.</summary>
    public FormationView Question() => new()
    {
        ClusterName = _settings.ClusterName,
        NodeId = _settings.NodeId,
        InstanceId = _settings.InstanceId,
        OpenCounter = _settings.OpenCounter,
        SupportedFeatureLevel = _settings.SupportedFeatureLevel,
        Members = _members,
        Standing = Phase switch
        {
            FormationPhase.Formed => FormationStanding.Formed,
            FormationPhase.Recording => FormationStanding.Recording,
            FormationPhase.Refused => FormationStanding.Refused,
            _ => _settings.LostCluster == Guid.Empty ? FormationStanding.Empty : FormationStanding.RecordLost,
        },
    };

    /// <summary>What this node answers to a question.</summary>
    public FormationView AnswerTo(FormationView asker)
    {
        FormationView answer = Question();
        if (!IsOfThisCluster(asker))
            return answer with { Refusal = FormationRefusal.OtherCluster };
        if (_superseded.Contains(asker.InstanceId))
            return answer with { Refusal = FormationRefusal.OtherInstance };
        if (Phase != FormationPhase.Formed || asker.Standing == FormationStanding.Formed)
            return answer;
        return answer with { Refusal = Judge(asker), Record = RecordFor(asker) };
    }

    private FormationRefusal Judge(FormationView asker) => Current!.FindNode(asker.NodeId) switch
    {
        null => FormationRefusal.UnknownNode,
        { IsRemoved: true } => FormationRefusal.NodeRemoved,
        NodeInfo node when node.InstanceId != Guid.Empty && node.InstanceId != asker.InstanceId => FormationRefusal.OtherInstance,
        NodeInfo node when node.OpenCounter > asker.OpenCounter => FormationRefusal.RestoredCopy,
        _ => FormationRefusal.None,
    };

    /// <summary>The record for a member that it lists. One that joined later has a later state instead, which nobody can start with.</summary>
    private ClusterState? RecordFor(FormationView asker) =>
        Judge(asker) == FormationRefusal.None && Record!.Version == ClusterState.FormationVersion && Record.FindNode(asker.NodeId) is not null ? Record : null;

    private void Take(ClusterState record, List<FormationEffect> effects)
    {
        NodeInfo? self = record.FindNode(_settings.NodeId);
        if (record.Version != ClusterState.FormationVersion
            || !string.Equals(record.ClusterName, _settings.ClusterName, StringComparison.Ordinal)
            || self is null
            || (self.InstanceId != Guid.Empty && self.InstanceId != _settings.InstanceId)
            || (_settings.LostCluster != Guid.Empty && _settings.LostCluster != record.ClusterId))
        {
            return;
        }

        Decide(record, effects);
    }

    private void FormIfComplete(List<FormationEffect> effects)
    {
        if (!IsFormer || _settings.LostCluster != Guid.Empty || _empty.Count != _members.Length - 1)
            return;
        NodeInfo[] nodes = new NodeInfo[_members.Length];
        for (int i = 0; i < nodes.Length; i++)
        {
            FormationView view = string.Equals(_members[i], _settings.NodeId, StringComparison.Ordinal) ? Question() : _empty[_members[i]];
            nodes[i] = new()
            {
                NodeId = view.NodeId,
                Address = _settings.Members[view.NodeId],
                InstanceId = view.InstanceId,
                OpenCounter = view.OpenCounter,
                SupportedFeatureLevel = view.SupportedFeatureLevel,
            };
        }

        PlacementPlan plan = Placement.Place(_members, _settings.Cluster.ShardCount, _settings.Cluster.ReplicationFactor);
        Decide(
            new()
            {
                ClusterId = _settings.NewClusterId,
                ClusterName = _settings.ClusterName,
                Version = ClusterState.FormationVersion,
                FeatureLevel = nodes.Min(node => node.SupportedFeatureLevel),
                Settings = _settings.Cluster,
                Nodes = nodes,
                MetadataGroup = plan.MetadataGroup,
                Shards = plan.Shards,
                NextReplicaId = plan.NextReplicaId,
            },
            effects);
    }

    private void Decide(ClusterState record, List<FormationEffect> effects)
    {
        Phase = FormationPhase.Recording;
        Record = record;
        effects.Add(new RecordEffect(record));
    }

    private void Refuse(FormationRefusal refusal, string reason, List<FormationEffect> effects)
    {
        Phase = FormationPhase.Refused;
        effects.Add(new RefuseEffect(refusal, reason));
    }

    private void AskOthers(List<FormationEffect> effects)
    {
        foreach (string member in _members)
        {
            if (!string.Equals(member, _settings.NodeId, StringComparison.Ordinal))
                effects.Add(new AskEffect(member));
        }
    }

    /// <summary>Takes down which directory a node runs on. False: one that another has replaced meanwhile; what it says is old.</summary>
    private bool Observe(FormationView view)
    {
        if (_superseded.Contains(view.InstanceId))
            return false;
        if (_instances.TryGetValue(view.NodeId, out Guid known) && known != view.InstanceId)
        {
            _superseded.Add(known);
            _empty.Remove(view.NodeId);
        }

        _instances[view.NodeId] = view.InstanceId;
        return true;
    }

    private bool IsOfThisCluster(FormationView view) => string.Equals(view.ClusterName, _settings.ClusterName, StringComparison.Ordinal);

    private bool IsMember(string nodeId) => _settings.Members.ContainsKey(nodeId);
}

/// <summary>How far a node is.</summary>
internal enum FormationPhase
{
    /// <summary>Unformed: asks, and answers.</summary>
    Asking,

    /// <summary>The record is decided and on its way to the disk.</summary>
    Recording,

    /// <summary>A member: the record is on the disk.</summary>
    Formed,

    /// <summary>It cannot become a member as it is configured.</summary>
    Refused,
}

/// <summary>What a node was configured with. Immutable.</summary>
internal sealed record FormationSettings
{
    public required string ClusterName { get; init; }

    public required string NodeId { get; init; }

    public required Guid InstanceId { get; init; }

    public required ulong OpenCounter { get; init; }

    public int SupportedFeatureLevel { get; init; } = FeatureLevels.Supported;

    /// <summary>Initial members and their addresses (text), this node included.</summary>
    public required IReadOnlyDictionary<string, string> Members { get; init; }

    public required ClusterSettings Cluster { get; init; }

    /// <summary>The id of the cluster, should this node form it: random.</summary>
    public required Guid NewClusterId { get; init; }

    /// <summary>The cluster that the node was a member of, if its record is gone; empty: none.</summary>
    public Guid LostCluster { get; init; }
}

/// <summary>Something that the machine's owner is to do.</summary>
internal abstract record FormationEffect;

/// <summary>Ask that member now.</summary>
internal sealed record AskEffect(string NodeId) : FormationEffect;

/// <summary>Make the record durable, then call <see cref="FormationMachine.OnRecorded"/>; answer nobody before that.</summary>
internal sealed record RecordEffect(ClusterState Record) : FormationEffect;

/// <summary>The node cannot become a member.</summary>
internal sealed record RefuseEffect(FormationRefusal Refusal, string Reason) : FormationEffect;
