using System.Net;
using NUnit.Framework;
using ShardForge.Metadata;
using ShardForge.Network;

namespace ShardForge.Tests.Metadata;

[Parallelizable(ParallelScope.All)]
[FixtureLifeCycle(LifeCycle.InstancePerTestCase)]
internal sealed class MembershipPolicyTests
{
    private readonly MembershipPolicy _policy = new("n1", "test", ["n1", "n2", "n3"], static () => States.Formation());

    [Test]
    public void A_member_is_accepted() => Assert.That(Check(Member()), Is.EqualTo(RefusalCode.None));

    [Test]
    public void Another_cluster_is_refused_by_name_and_by_id()
    {
        Assert.That(Check(Member() with { ClusterName = "other" }), Is.EqualTo(RefusalCode.WrongCluster));
        Assert.That(Check(Member() with { ClusterName = "other", Purpose = HandshakePurpose.Call }), Is.EqualTo(RefusalCode.WrongCluster));
        Assert.That(Check(Member() with { ClusterId = new Guid(5, 5, 5, new byte[8]) }), Is.EqualTo(RefusalCode.WrongCluster));
    }

    [Test]
    public void Strangers_may_ask_but_not_stay()
    {
        Assert.That(Check(Member() with { NodeId = "n9", Purpose = HandshakePurpose.Call }), Is.EqualTo(RefusalCode.None));
        Assert.That(Check(Member() with { NodeId = "n9" }), Is.EqualTo(RefusalCode.UnknownNode));
    }

    [Test]
    public void R38_another_directory_is_refused() =>
        Assert.That(Check(Member() with { InstanceId = new Guid(99, 0, 0, new byte[8]) }), Is.EqualTo(RefusalCode.InstanceConflict));

    [Test]
    public void R38_a_lower_open_counter_or_log_end_than_seen_is_a_restored_copy()
    {
        Assert.That(Check(Member() with { OpenCounter = 5, LogEnd = 900 }), Is.EqualTo(RefusalCode.None));
        Assert.That(Check(Member() with { OpenCounter = 4, LogEnd = 950 }), Is.EqualTo(RefusalCode.StaleCopy));
        Assert.That(Check(Member() with { OpenCounter = 6, LogEnd = 899 }), Is.EqualTo(RefusalCode.StaleCopy));
        Assert.That(Check(Member() with { OpenCounter = 6, LogEnd = 900 }), Is.EqualTo(RefusalCode.None));
    }

    [Test]
    public void R38_a_lower_open_counter_than_registered_is_a_restored_copy() =>
        Assert.That(Check(Member() with { OpenCounter = 0 }), Is.EqualTo(RefusalCode.StaleCopy));

    [Test]
    public void Hellos_of_one_run_may_come_in_another_order()
    {
        Assert.That(Check(Member() with { LogEnd = 900 }), Is.EqualTo(RefusalCode.None));
        Assert.That(Check(Member() with { LogEnd = 800 }), Is.EqualTo(RefusalCode.None));
    }

    [Test]
    public void R38_one_run_at_two_addresses_is_a_conflict()
    {
        Assert.That(Check(Member()), Is.EqualTo(RefusalCode.None));
        Assert.That(Check(Member() with { AdvertisedEndPoint = new IPEndPoint(IPAddress.Loopback, 2) }), Is.EqualTo(RefusalCode.InstanceConflict));
    }

    [Test]
    public void R42_a_node_that_does_not_know_the_feature_level_is_refused() =>
        Assert.That(Check(Member() with { FeatureLevel = 0 }), Is.EqualTo(RefusalCode.FeatureLevel));

    [Test]
    public void A_node_that_is_no_member_yet_lets_in_who_it_was_told_of()
    {
        MembershipPolicy unformed = new("n1", "test", ["n1", "n2"], static () => null);
        Assert.That(unformed.Check(Member(), LinkDirection.Incoming).Code, Is.EqualTo(RefusalCode.None));
        Assert.That(unformed.Check(Member() with { NodeId = "n9" }, LinkDirection.Incoming).Code, Is.EqualTo(RefusalCode.UnknownNode));
    }

    private static HandshakeHello Member() => new()
    {
        ClusterId = States.Formation().ClusterId,
        ClusterName = "test",
        NodeId = "n2",
        InstanceId = new Guid(2, 0, 0, new byte[8]),
        OpenCounter = 1,
        LogEnd = 100,
        FeatureLevel = 1,
        AdvertisedEndPoint = new IPEndPoint(IPAddress.Loopback, 1),
    };

    private RefusalCode Check(HandshakeHello hello) => _policy.Check(hello, LinkDirection.Incoming).Code;
}
