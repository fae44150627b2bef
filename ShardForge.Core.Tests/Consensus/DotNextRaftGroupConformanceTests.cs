namespace ShardForge.Tests.Consensus;

/// <summary>The suite over the groups on DotNext.</summary>
internal sealed class DotNextRaftGroupConformanceTests : RaftGroupConformance
{
    protected override async ValueTask<RaftGroupHarness> CreateAsync(int count) => await DotNextHarness.CreateAsync(count, preferredLeader: 0);
}

/// <summary>The suite over the groups on DotNext with the real links and the real log.</summary>
internal sealed class NetworkedRaftGroupConformanceTests : RaftGroupConformance
{
    protected override ValueTask<RaftGroupHarness> CreateAsync(int count) => NetworkedHarness.CreateAsync(count);
}
