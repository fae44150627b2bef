namespace ShardForge.Tests.Consensus;

/// <summary>The suite over the groups on DotNext.</summary>
internal sealed class DotNextRaftGroupConformanceTests : RaftGroupConformance
{
    protected override async ValueTask<RaftGroupHarness> CreateAsync(int count) => await DotNextHarness.CreateAsync(count, preferredLeader: 0);
}
