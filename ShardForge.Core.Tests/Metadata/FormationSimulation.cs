using System.Globalization;
using ShardForge.Metadata;
using ShardForge.Metadata.Formation;

namespace ShardForge.Tests.Metadata;

/// <summary>Formation machines of several nodes with their disks, and messages that can be held back, lost, and overtaken by crashes.</summary>
/// <remarks>What was on its way to a process is gone with it; what it had sent may still arrive.</remarks>
internal sealed class FormationSimulation(IReadOnlyList<string> members)
{
    private readonly SortedDictionary<string, Node> _nodes = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Message> _held = new(StringComparer.Ordinal);
    private readonly HashSet<(string From, string To)> _cuts = [];
    private readonly List<Guid> _clusters = [];
    private int _lastId;

    /// <summary>What happened since it was last taken.</summary>
    public List<string> Trace { get; } = [];

    public IEnumerable<string> Held => _held.Keys;

    public bool IsUp(string node) => _nodes.TryGetValue(node, out Node? it) && it.Machine is not null;

    public bool IsRecording(string node) => IsUp(node) && _nodes[node].Pending is not null;

    public ClusterState? RecordOnDisk(string node) => _nodes.TryGetValue(node, out Node? it) ? it.Record : null;

    /// <summary>Starts a process. A disk that it does not find is a new one.</summary>
    public void Up(string node, IReadOnlyList<string>? configured = null, string cluster = "test")
    {
        if (!_nodes.TryGetValue(node, out Node? it))
            _nodes.Add(node, it = new() { Instance = NewId() });
        it.OpenCounter++;
        Dictionary<string, string> addresses = (configured ?? members).ToDictionary(static member => member, static member => member + ":1", StringComparer.Ordinal);
        it.Machine = new(
            new()
            {
                ClusterName = cluster,
                NodeId = node,
                InstanceId = it.Instance,
                OpenCounter = it.OpenCounter,
                Members = addresses,
                Cluster = new() { ShardCount = 2, ReplicationFactor = 1, PartitionRule = PartitionRule.WholeKey },
                NewClusterId = NewId(),
            },
            it.Record);
        Do(node, static (machine, effects) => machine.Start(effects));
    }

    public void Kill(string node)
    {
        _nodes[node].Machine = null;
        _nodes[node].Pending = null;
        foreach ((string name, Message message) in _held)
        {
            if (message.Answer is null && message.To == node)
                _held.Remove(name);
        }
    }

    public void Wipe(string node)
    {
        Kill(node);
        _nodes.Remove(node);
    }

    /// <summary>From now on the node's record stays on its way to the disk until <see cref="FinishDisk"/>.</summary>
    public void HoldDisk(string node) => _nodes[node].HoldDisk = true;

    public void FinishDisk(string node)
    {
        Node it = _nodes[node];
        it.HoldDisk = false;
        if (it.Machine is null || it.Pending is null)
            return;
        it.Record = it.Pending;
        it.Pending = null;
        Do(node, static (machine, effects) => machine.OnRecorded(effects));
    }

    /// <summary>A question, delivered and answered at once.</summary>
    public void Ask(string from, string to)
    {
        if (_cuts.Contains((from, to)))
            return;
        Hold("now", from, to);
        Deliver("now");
        Deliver("now");
    }

    /// <summary>A question that is held back.</summary>
    public void Hold(string name, string from, string to)
    {
        if (_nodes.TryGetValue(from, out Node? node) && node.Machine is { } machine && node.Pending is null)
            _held[name] = new(from, to, machine, machine.Question(), null);
    }

    /// <summary>Takes a held question to its node, or its held answer back.</summary>
    public void Deliver(string name)
    {
        if (!_held.Remove(name, out Message? message))
            return;
        if (message.Answer is { } answer)
        {
            // To the process that asked, if it still runs.
            if (!_nodes.TryGetValue(message.From, out Node? from) || from.Machine != message.Asker)
                return;
            FormationView received = Copy(answer);
            Do(message.From, (machine, effects) => machine.OnAnswer(message.To, received, effects));
        }
        else if (_nodes.TryGetValue(message.To, out Node? to) && to.Machine is { } machine)
        {
            FormationView question = Copy(message.Question);
            Do(message.To, (machine, effects) => machine.OnQuestion(question, effects));
            // Answered by a process that is still there, once its record is durable.
            if (to.Pending is null && to.Machine is not null)
                _held[name] = message with { Answer = to.Machine.AnswerTo(question) };
        }
    }

    /// <summary>Nothing is asked between the two; what is held back is not concerned.</summary>
    public void Cut(string left, string right)
    {
        _cuts.Add((left, right));
        _cuts.Add((right, left));
    }

    public void Heal() => _cuts.Clear();

    public void Drop(string name) => _held.Remove(name);

    /// <summary>Lets everybody ask everybody until nothing changes.</summary>
    public void Run()
    {
        string before;
        do
        {
            before = Describe();
            foreach (string from in _nodes.Keys.ToArray())
            {
                foreach (string to in members)
                {
                    if (from != to && _nodes[from].Machine is { Phase: FormationPhase.Asking })
                        Ask(from, to);
                }
            }
        }
        while (before != Describe());
    }

    public string Describe() => string.Join("; ", _nodes.Select(node => $"{node.Key} {Describe(node.Value)}"));

    private string Describe(Node node) => (node.Machine?.Phase, node.Record) switch
    {
        (null, null) => "down",
        (null, { } record) => $"down with {NameOf(record)}",
        (FormationPhase.Formed, { } record) => $"formed {NameOf(record)}",
        (FormationPhase phase, _) => phase.ToString().ToLowerInvariant(),
    };

    private void Do(string name, Action<FormationMachine, List<FormationEffect>> input)
    {
        Node node = _nodes[name];
        List<FormationEffect> effects = [];
        input(node.Machine!, effects);
        foreach (FormationEffect effect in effects)
        {
            switch (effect)
            {
                case RecordEffect record:
                    bool made = !_clusters.Contains(record.Record.ClusterId);
                    Trace.Add($"{name} {(made ? "makes" : "takes")} {NameOf(record.Record)}{(made ? $" of {string.Join(' ', record.Record.Nodes.Select(static it => it.NodeId))}" : "")}");
                    node.Pending = record.Record;
                    if (!node.HoldDisk)
                        FinishDisk(name);
                    break;
                case RefuseEffect refuse:
                    Trace.Add($"{name} refused: {refuse.Refusal}");
                    break;
                case AskEffect ask:
                    Ask(name, ask.NodeId);
                    break;
                default:
                    throw new InvalidOperationException(effect.ToString());
            }
        }
    }

    private static FormationView Copy(FormationView view) => (FormationView)FormationMessage.Decode(view.Encode());

    private string NameOf(ClusterState record)
    {
        if (!_clusters.Contains(record.ClusterId))
            _clusters.Add(record.ClusterId);
        return string.Create(CultureInfo.InvariantCulture, $"C{_clusters.IndexOf(record.ClusterId) + 1}");
    }

    private Guid NewId() => new(++_lastId, 0, 0, new byte[8]);

    private sealed record Message(string From, string To, FormationMachine Asker, FormationView Question, FormationView? Answer);

    private sealed class Node
    {
        public required Guid Instance { get; init; }

        public ulong OpenCounter { get; set; }

        public ClusterState? Record { get; set; }

        public ClusterState? Pending { get; set; }

        public bool HoldDisk { get; set; }

        public FormationMachine? Machine { get; set; }
    }
}
