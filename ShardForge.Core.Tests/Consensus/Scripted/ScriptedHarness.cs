using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Consensus.Scripted;

namespace ShardForge.Tests.Consensus.Scripted;

/// <summary>The scripted group under the conformance suite: this harness writes the script that a real group would follow when links are cut and replicas die.</summary>
internal sealed class ScriptedHarness : RaftGroupHarness
{
    // A wait is a number of steps, not of seconds.
    private const int StepsMax = 1000;

    private readonly ScriptedCluster _cluster;
    private readonly RecordingStateMachine[] _machines;
    private readonly bool[] _isUp;
    private readonly HashSet<(int, int)> _cuts = [];

    public ScriptedHarness(int count)
    {
        InMemoryFileSystem files = new();
        _cluster = new ScriptedCluster(new ShardId(7), [.. Enumerable.Range(0, count).Select(replica => new RaftMember(IdOf(replica), $"n{replica}"))]);
        _machines = [.. Enumerable.Range(0, count).Select(replica => new RecordingStateMachine(files, $"/shards/{replica}"))];
        _isUp = [.. Enumerable.Repeat(element: true, count)];
        for (int replica = 0; replica < count; replica++)
            _cluster.Attach(IdOf(replica), _machines[replica]);
    }

    public override int Count => _machines.Length;

    private int Leader => (int)(_cluster.Leader?.Value ?? 0) - 1;

    public override IRaftGroup? TryGroup(int replica) => _isUp[replica] ? _cluster[IdOf(replica)] : null;

    public override RecordingStateMachine Machine(int replica) => _machines[replica];

    public override void Cut(int left, int right)
    {
        _cuts.Add((Math.Min(left, right), Math.Max(left, right)));
        FollowLinks();
    }

    public override void Heal()
    {
        _cuts.Clear();
        for (int replica = 0; replica < Count; replica++)
        {
            if (replica != Leader && _isUp[replica])
                _cluster.Depose(IdOf(replica));
        }

        FollowLinks();
    }

    public override ValueTask KillAsync(int replica)
    {
        _isUp[replica] = false;
        _cluster.Detach(IdOf(replica));
        _machines[replica].Recover(generation: 1);
        FollowLinks();
        return default;
    }

    public override ValueTask RestartAsync(int replica)
    {
        _isUp[replica] = true;
        _cluster.Attach(IdOf(replica), _machines[replica]);
        FollowLinks();
        return default;
    }

    public override ValueTask WaitUntilAsync(Func<bool> condition, string what)
    {
        for (int step = 0; !condition(); step++)
        {
            if (step == StepsMax)
                Assert.Fail($"{StepsMax} steps in vain for {what}.");
            Step();
        }

        return default;
    }

    public override ValueTask WaitElectionAsync()
    {
        Step();
        return default;
    }

    public override async ValueTask DisposeAsync()
    {
        for (int replica = 0; replica < Count; replica++)
            await _cluster[IdOf(replica)].DisposeAsync();
        _cluster.Dispose();
    }

    // Whoever leads and reaches no majority steps down; a replica that reaches one is elected where nobody leads.
    private void Step()
    {
        for (int replica = 0; replica < Count; replica++)
        {
            if (_cluster[IdOf(replica)].Status.IsLeader && !ReachesMajority(replica))
                _cluster.Depose(IdOf(replica));
        }

        if (Leader >= 0 && _cluster[IdOf(Leader)].Status.IsLeader)
            return;
        int next = Enumerable.Range(0, Count).FirstOrDefault(ReachesMajority, -1);
        if (next >= 0)
            _cluster.Elect(IdOf(next), deposeOthers: false);
        FollowLinks();
    }

    private void FollowLinks()
    {
        if (Leader < 0)
            return;
        for (int replica = 0; replica < Count; replica++)
        {
            bool reaches = ReachesMajority(replica);
            _cluster[IdOf(replica)].ReachesMajority = reaches;
            _cluster[IdOf(replica)].LeaseIsValid = reaches;
        }

        _cluster.HoldsCommits = !ReachesMajority(Leader);
        for (int replica = 0; replica < Count; replica++)
            _cluster[IdOf(replica)].HoldsApplies = replica != Leader && !IsLinked(replica, Leader);
        if (!_cluster.HoldsCommits)
            _cluster.Commit();
    }

    private bool ReachesMajority(int replica) => _isUp[replica] && Enumerable.Range(0, Count).Count(other => other == replica || IsLinked(replica, other)) * 2 > Count;

    private bool IsLinked(int left, int right) => _isUp[left] && _isUp[right] && !_cuts.Contains((Math.Min(left, right), Math.Max(left, right)));
}

/// <summary>The suite over the scripted group.</summary>
internal sealed class ScriptedRaftGroupConformanceTests : RaftGroupConformance
{
    protected override ValueTask<RaftGroupHarness> CreateAsync(int count) => new(new ScriptedHarness(count));
}
