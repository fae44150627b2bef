using System.Collections.Concurrent;
using System.Net;

namespace ShardForge.Testing.Network;

/// <summary>What is wrong with the network between the nodes of one test: shared by the <see cref="FaultyTransport"/> of each.</summary>
/// <remarks>A blocked direction holds the bytes, as a real partition does to TCP: nothing fails, nothing arrives, not even the end of a
/// connection, until it is healed or someone's patience ends. Frames that are dropped are lost for good, which the receiver notices by the gap.
/// Changes take effect on open connections at the next frame. Safe for concurrent use. Randomness by seed; the handshake is neither dropped nor
/// doubled, so that links come up again.</remarks>
internal sealed class NetworkFaults(int seed, TimeProvider? timeProvider = null)
{
    private readonly Lock _gate = new();
    private readonly ConcurrentDictionary<EndPoint, int> _owners = new();
    private readonly HashSet<FaultyConnection> _connections = [];
    private readonly Random _random = new(seed);
    private readonly HashSet<(int From, int To)> _blocked = [];
    private readonly Dictionary<int, int> _groups = [];
    private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private TimeSpan _delay;
    private double _dropProbability, _duplicateProbability;
    private bool _isPartitioned;
    private bool _isActive;

    public TimeProvider TimeProvider { get; } = timeProvider ?? TimeProvider.System;

    /// <summary>False: frames may pass without a look.</summary>
    public bool IsActive => Volatile.Read(ref _isActive);

    public TimeSpan Delay
    {
        get
        {
            lock (_gate)
                return _delay;
        }
    }

    /// <summary>Nodes of different groups cannot talk, either way; those not named form one more group. Replaces an earlier partition.</summary>
    public void Partition(params int[][] groups) => Change(() =>
    {
        _groups.Clear();
        for (int group = 0; group < groups.Length; group++)
        {
            foreach (int node in groups[group])
                _groups[node] = group;
        }

        _isPartitioned = true;
    });

    /// <summary>Nothing gets from one node to the other; the opposite direction is left as it is.</summary>
    public void BlockLink(int from, int to) => Change(() => _blocked.Add((from, to)));

    /// <summary>Every frame takes so much longer.</summary>
    public void DelayLinks(TimeSpan delay) => Change(() => _delay = delay);

    /// <summary>Each frame is lost, or comes twice, with these probabilities.</summary>
    public void DamageFrames(double dropProbability, double duplicateProbability) => Change(() =>
    {
        _dropProbability = dropProbability;
        _duplicateProbability = duplicateProbability;
    });

    /// <summary>Undoes everything.</summary>
    public void Heal() => Change(() =>
    {
        _groups.Clear();
        _blocked.Clear();
        _isPartitioned = false;
        _delay = TimeSpan.Zero;
        _dropProbability = _duplicateProbability = 0;
    });

    /// <summary>Breaks the open connections between two nodes, whoever dialled; they may be opened again at once.</summary>
    public void Cut(int first, int second)
    {
        List<FaultyConnection> cut = [];
        lock (_gate)
        {
            foreach (FaultyConnection connection in _connections)
            {
                (int dialler, int acceptor) = (connection.Dialler, connection.Acceptor);
                if ((dialler == first && acceptor == second) || (dialler == second && acceptor == first))
                    cut.Add(connection);
            }
        }

        foreach (FaultyConnection connection in cut)
            connection.Abort();
    }

    public bool IsBlocked(int from, int to)
    {
        lock (_gate)
            return IsBlockedLocked(from, to);
    }

    /// <summary>Waits until frames may go from one node to the other.</summary>
    public async ValueTask WaitUntilOpenAsync(int from, int to, CancellationToken cancellationToken)
    {
        while (true)
        {
            Task changed;
            lock (_gate)
            {
                if (!IsBlockedLocked(from, to))
                    return;
                changed = _changed.Task;
            }

            await changed.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>How often the next frame arrives: 0, 1 or 2 times.</summary>
    public int NextCopies()
    {
        lock (_gate)
        {
            if (_dropProbability > 0 && _random.NextDouble() < _dropProbability)
                return 0;
            return _duplicateProbability > 0 && _random.NextDouble() < _duplicateProbability ? 2 : 1;
        }
    }

    /// <summary>The node that listens there; null: not one of the test.</summary>
    public int? OwnerOf(EndPoint endPoint)
    {
        if (_owners.TryGetValue(endPoint, out int owner))
            return owner;
        if (endPoint is not IPEndPoint { Port: int port })
            return null;
        return _owners.TryGetValue(new IPEndPoint(IPAddress.Any, port), out owner)
            || _owners.TryGetValue(new IPEndPoint(IPAddress.IPv6Any, port), out owner)
            ? owner
            : null;
    }

    public void SetOwner(EndPoint endPoint, int node) => _owners[endPoint] = node;

    public void Add(FaultyConnection connection)
    {
        lock (_gate)
            _connections.Add(connection);
    }

    public void Remove(FaultyConnection connection)
    {
        lock (_gate)
            _connections.Remove(connection);
    }

    private void Change(Action change)
    {
        TaskCompletionSource changed;
        lock (_gate)
        {
            change();
            bool damages = _dropProbability > 0 || _duplicateProbability > 0;
            Volatile.Write(ref _isActive, _isPartitioned || _blocked.Count > 0 || _delay > TimeSpan.Zero || damages);
            (changed, _changed) = (_changed, new(TaskCreationOptions.RunContinuationsAsynchronously));
        }

        changed.SetResult();
    }

    private bool IsBlockedLocked(int from, int to) =>
        _blocked.Contains((from, to)) || (_isPartitioned && _groups.GetValueOrDefault(from, -1) != _groups.GetValueOrDefault(to, -1));
}
