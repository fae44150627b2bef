using NUnit.Framework;
using ShardForge.Metadata;
using ShardForge.Metadata.Formation;

namespace ShardForge.Tests.Metadata;

[Parallelizable(ParallelScope.All)]
internal sealed class MetadataServiceTests
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(20);

    [Test]
    public async Task A_node_that_is_alone_is_formed_when_it_is_started()
    {
        await using MetadataNodes nodes = new();
        MetadataService service = await nodes.StartAsync(1, static options => options with { Link = null });
        Assert.That(service.Formed.IsCompletedSuccessfully);
        Assert.That(service.State.Shards, Has.Count.EqualTo(4));
        Assert.That(service.State.ReplicasOn("n1"), Has.Count.EqualTo(5));
        Timestamp first = await NextAsync(service);
        Assert.That(await NextAsync(service), Is.GreaterThan(first));
    }

    [Test]
    public async Task Three_nodes_form_one_cluster_and_all_get_rising_timestamps()
    {
        await using MetadataNodes nodes = new();
        await StartThreeAsync(nodes);
        ClusterState[] records = await Task.WhenAll(nodes.Services.Select(static service => service.Formed)).WaitAsync(s_limit);
        Assert.That(records.Select(static record => record.ClusterId).Distinct().Count(), Is.EqualTo(1));
        Timestamp last = Timestamp.Zero;
        for (int round = 0; round < 5; round++)
        {
            foreach (MetadataService service in nodes.Services)
            {
                Timestamp next = await NextAsync(service);
                Assert.That(next, Is.GreaterThan(last));
                last = next;
            }
        }
    }

    [Test]
    public async Task R01_timestamps_rise_over_a_change_of_leader()
    {
        await using MetadataNodes nodes = new();
        await StartThreeAsync(nodes);
        int leader = await nodes.WaitForLeaderAsync();
        Timestamp before = Timestamp.Zero;
        foreach (MetadataService service in nodes.Services)
            before = await NextAsync(service);

        await nodes.KillAsync(leader);
        foreach (MetadataService service in nodes.Services)
        {
            Timestamp after = await NextAsync(service);
            Assert.That(after, Is.GreaterThan(before));
            before = after;
        }
    }

    [Test]
    public async Task R01_a_leader_that_is_cut_off_hands_out_nothing_once_another_one_does()
    {
        await using MetadataNodes nodes = new();
        await StartThreeAsync(nodes);
        int leader = await nodes.WaitForLeaderAsync();
        await NextAsync(nodes[$"n{leader}"]);
        nodes.Isolate(leader);
        int next = await nodes.WaitForLeaderAsync(except: leader);
        Timestamp after = await NextAsync(nodes[$"n{next}"]);
        Assert.That(nodes[$"n{leader}"].TryNext(out Timestamp _), Is.False);
        Task<Timestamp> waiting = NextAsync(nodes[$"n{leader}"]);
        nodes.Heal();
        Assert.That(await waiting, Is.GreaterThan(after));
    }

    [Test]
    public async Task A_frozen_clock_stops_neither_the_formation_nor_the_oracle()
    {
        await using MetadataNodes nodes = new();
        ScriptedTime time = new();
        for (int number = 1; number <= 3; number++)
            await nodes.StartAsync(number, options => options with { Members = MetadataNodes.Members(3), TimeProvider = time });
        foreach (MetadataService service in nodes.Services)
            Assert.That((await NextAsync(service)).Milliseconds, Is.GreaterThanOrEqualTo(time.WallMilliseconds));
    }

    [Test]
    public async Task A_node_without_a_replica_of_group_0_follows_the_state_and_gets_timestamps()
    {
        await using MetadataNodes nodes = new();
        for (int number = 1; number <= 4; number++)
            await nodes.StartAsync(number, static options => options with { Members = MetadataNodes.Members(4) });
        await NextAsync(nodes["n4"]);
        Assert.That(nodes["n4"].Replica, Is.Null);
        await ProposeAsync(nodes["n4"], States.Register("n9", 99, 1));
        await MetadataNodes.WaitAsync(() => nodes.Services.All(static service => service.State.FindNode("n9") is not null), "the change on every node");
    }

    [Test]
    public async Task R38_a_restarted_node_registers_its_run_and_knows_the_state_before_it_reaches_anyone()
    {
        await using MetadataNodes nodes = new();
        await StartThreeAsync(nodes);
        await Task.WhenAll(nodes.Services.Select(static service => service.Formed)).WaitAsync(s_limit);
        await NextAsync(nodes["n3"]);
        await nodes.StopAsync(3);
        await nodes.StartAsync(3);
        await MetadataNodes.WaitAsync(() => nodes.Services.All(static service => service.State.FindNode("n3")!.OpenCounter == 2), "the second run on every node");
        await MetadataNodes.WaitAsync(() => nodes.DiskOf("n3").FileExists("/data/topology"), "the cache");
        ulong known = nodes["n3"].State.Version;
        await nodes.StopAsync(3);
        nodes.Isolate(3);
        MetadataService again = await nodes.StartAsync(3);
        Assert.That(again.State.Version, Is.GreaterThanOrEqualTo(known));
    }

    [Test]
    public async Task A_cluster_that_was_killed_as_a_whole_comes_back_with_its_state_and_rising_timestamps()
    {
        await using MetadataNodes nodes = new();
        await StartThreeAsync(nodes);
        await NextAsync(nodes["n1"]);
        await ProposeAsync(nodes["n1"], States.Register("n9", 99, 1));
        Timestamp before = await NextAsync(nodes["n2"]);
        await Task.WhenAll(Enumerable.Range(1, 3).Select(nodes.KillAsync));
        await StartThreeAsync(nodes);
        Assert.That(await NextAsync(nodes["n3"]), Is.GreaterThan(before));
        await MetadataNodes.WaitAsync(() => nodes.Services.All(static service => service.State.FindNode("n9") is not null), "the state of before on every node");
    }

    [Test]
    public async Task R38_a_restored_copy_is_told_that_it_does_not_take_part()
    {
        await using MetadataNodes nodes = new();
        await StartThreeAsync(nodes);
        await Task.WhenAll(nodes.Services.Select(static service => service.Formed)).WaitAsync(s_limit);
        await nodes.StopAsync(3);
        await nodes.StartAsync(3);
        await MetadataNodes.WaitAsync(() => nodes["n1"].State.FindNode("n3")!.OpenCounter == 2, "the second run");
        await nodes.StopAsync(3);
        nodes.DiskOf("n3").Delete("/data/topology");
        MetadataService copy = await nodes.StartAsync(3, static options => options with { Members = MetadataNodes.Members(3), OpenCounter = 1 });
        await MetadataNodes.WaitAsync(() => copy.Rejection is not null, "the rejection");
        Assert.That(copy.Rejection!.Setting, Is.EqualTo("DataDirectory"));
    }

    [Test]
    public async Task R37_a_wiped_node_forms_nothing_and_takes_its_own_place()
    {
        await using MetadataNodes nodes = new();
        await StartThreeAsync(nodes);
        await NextAsync(nodes["n1"]);
        Guid cluster = nodes["n1"].State.ClusterId;
        await nodes.WipeAsync(2);
        MetadataService wiped = await nodes.StartAsync(2, static options => options with { Members = MetadataNodes.Members(3) });
        ClusterState joined = await wiped.Formed.WaitAsync(s_limit);
        Assert.That(joined.ClusterId, Is.EqualTo(cluster));
        Assert.That(joined.Version, Is.GreaterThan(ClusterState.FormationVersion), "not the record, whose replicas it lost");
        Assert.That(joined.FindNode("n2")!.FirstReplica.Value, Is.GreaterThan(joined.MetadataGroup.ReplicaOn("n2")!.Value.Replica.Value));
        Assert.That((await NextAsync(nodes["n3"])).IsZero, Is.False);
        Assert.That(nodes["n3"].State.ClusterId, Is.EqualTo(cluster));
    }

    [Test]
    public async Task A_node_joins_a_running_cluster_without_replicas()
    {
        await using MetadataNodes nodes = new();
        await StartThreeAsync(nodes);
        MetadataService joining = await nodes.StartAsync(7, static options => options with { Join = [MetadataHub.AddressOf(2)] });
        ClusterState state = await joining.Formed.WaitAsync(s_limit);
        Assert.That(state.FindNode("n7")!.Address, Is.EqualTo(MetadataHub.AddressOf(7).ToString()));
        Assert.That(state.ReplicasOn("n7"), Is.Empty);
        await NextAsync(joining);
        await MetadataNodes.WaitAsync(() => nodes.Services.All(static service => service.State.FindNode("n7") is not null), "the new node on every node");

        await nodes.StopAsync(7);
        MetadataService again = await nodes.StartAsync(7);
        Assert.That(again.Formed.IsCompletedSuccessfully);
        await MetadataNodes.WaitAsync(() => nodes["n1"].State.FindNode("n7")!.OpenCounter == 2, "its second run");
        await ProposeAsync(nodes["n1"], new RemoveNodeCommand("n7"));
        await MetadataNodes.WaitAsync(() => again.Rejection is not null, "the removed node to learn of it");
    }

    [Test]
    public async Task A_node_id_that_is_taken_does_not_join()
    {
        await using MetadataNodes nodes = new();
        await StartThreeAsync(nodes);
        await NextAsync(nodes["n1"]);
        JoinRequest request = new() { ClusterName = "test", Node = States.Register("n2", 77, 1) };
        byte[] answer = await nodes["n1"].HandleFormationAsync("n2", request.Encode(), default);
        Assert.That(((JoinAnswer)FormationMessage.Decode(answer)).Refusal, Is.EqualTo(FormationRefusal.OtherInstance));
    }

    [Test]
    public async Task Another_cluster_name_fails_the_join_and_the_formation()
    {
        await using MetadataNodes nodes = new();
        await nodes.StartAsync(1);
        MetadataService joining = await nodes.StartAsync(2, static options => options with { ClusterName = "other", Join = [MetadataHub.AddressOf(1)] });
        MetadataService forming = await nodes.StartAsync(3, static options => options with { ClusterName = "other", Members = new Dictionary<string, System.Net.EndPoint> { ["n1"] = MetadataHub.AddressOf(1), ["n3"] = MetadataHub.AddressOf(3) } });
        foreach (MetadataService service in (MetadataService[])[joining, forming])
        {
            ConfigurationException? error = Assert.ThrowsAsync<ConfigurationException>(() => service.Formed.WaitAsync(s_limit));
            Assert.That(error!.Setting, Is.EqualTo("ClusterName"));
        }
    }

    [Test]
    public async Task R42_the_feature_level_rises_once_the_last_node_is_new()
    {
        await using MetadataNodes nodes = new();
        for (int number = 1; number <= 3; number++)
            await nodes.StartAsync(number, static options => options with { Members = MetadataNodes.Members(3) });
        await NextAsync(nodes["n1"]);
        for (int number = 1; number <= 3; number++)
        {
            Assert.That(nodes["n1"].State.FeatureLevel, Is.EqualTo(1));
            await nodes.StopAsync(number);
            await nodes.StartAsync(number, static options => options with { Members = MetadataNodes.Members(3), SupportedFeatureLevel = 2 });
            await MetadataNodes.WaitAsync(() => nodes.Services.All(service => service.Current?.FindNode($"n{number}")!.SupportedFeatureLevel == 2), $"the new build of n{number}");
        }

        await MetadataNodes.WaitAsync(() => nodes.Services.All(static service => service.State.FeatureLevel == 2), "the level");
    }

    [Test]
    public void Settings_that_cannot_be_used_are_refused_before_anything_is_written()
    {
        (string Setting, Func<MetadataOptions, MetadataOptions> Change)[] cases =
        [
            ("ListenEndPoint", static options => options with { Members = MetadataNodes.Members(3), Link = null }),
            ("ListenEndPoint", static options => options with { Join = [MetadataHub.AddressOf(2)], Link = null }),
            ("ShardCount", static options => options with { ShardCount = 0 }),
            ("ShardCount", static options => options with { ShardCount = 65_537 }),
            ("ReplicationFactor", static options => options with { ReplicationFactor = 2 }),
            ("ReplicationFactor", static options => options with { Members = MetadataNodes.Members(3), ReplicationFactor = 0 }),
            ("Members", static options => options with { Members = new Dictionary<string, System.Net.EndPoint> { ["n2"] = MetadataHub.AddressOf(2) } }),
            ("Join", static options => options with { Members = MetadataNodes.Members(3), Join = [MetadataHub.AddressOf(2)] }),
        ];
        foreach ((string setting, Func<MetadataOptions, MetadataOptions> change) in cases)
        {
            MetadataNodes nodes = new();
            ConfigurationException? error = Assert.ThrowsAsync<ConfigurationException>(() => nodes.StartAsync(1, change));
            Assert.That(error!.Setting, Is.EqualTo(setting));
            Assert.That(nodes.DiskOf("n1").ListFiles("/data"), Is.Empty);
        }
    }

    [Test]
    public async Task A_directory_of_another_cluster_or_node_is_refused()
    {
        MetadataNodes nodes = new();
        await nodes.StartAsync(1);
        await nodes.StopAsync(1);
        foreach (Func<MetadataOptions, MetadataOptions> change in (Func<MetadataOptions, MetadataOptions>[])
            [static options => options with { ClusterName = "other" }, static options => options with { NodeId = "n5" }, static options => options with { KnownClusterId = new Guid(9, 9, 9, new byte[8]) }])
        {
            ConfigurationException? error = Assert.ThrowsAsync<ConfigurationException>(() => nodes.StartAsync(1, change));
            Assert.That(error!.Setting, Is.EqualTo("DataDirectory"));
        }
    }

    [Test]
    public async Task A_member_whose_record_is_gone_gets_it_again_and_is_never_taken_for_empty()
    {
        await using MetadataNodes nodes = new();
        await StartThreeAsync(nodes);
        Guid cluster = (await nodes["n1"].Formed.WaitAsync(s_limit)).ClusterId;
        await nodes["n2"].Formed.WaitAsync(s_limit);
        await nodes.StopAsync(1);
        nodes.DiskOf("n1").Delete("/data/formation");
        MetadataService again = await nodes.StartAsync(1, options => options with { Members = MetadataNodes.Members(3), KnownClusterId = cluster });
        Assert.That((await again.Formed.WaitAsync(s_limit)).ClusterId, Is.EqualTo(cluster));
    }

    private static async Task<MetadataOutcome> ProposeAsync(MetadataService service, MetadataCommand command)
    {
        using CancellationTokenSource limit = new(s_limit);
        return await service.ProposeAsync(command, limit.Token);
    }

    private static async Task StartThreeAsync(MetadataNodes nodes)
    {
        for (int number = 1; number <= 3; number++)
            await nodes.StartAsync(number, static options => options with { Members = MetadataNodes.Members(3) });
    }

    private static async Task<Timestamp> NextAsync(MetadataService service)
    {
        using CancellationTokenSource limit = new(s_limit);
        return await service.Timestamps.NextAsync(limit.Token);
    }
}
