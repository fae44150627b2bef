using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Metadata;
using ShardForge.Metadata.Formation;

namespace ShardForge.Tests.Metadata;

/// <summary>Formats on disk and on the wire: the bytes in Scenarios/formats.txt are for ever.</summary>
[Parallelizable(ParallelScope.All)]
internal sealed class MetadataFormatTests
{
    private const string FileName = "formats.txt";

    private static readonly Dictionary<string, Func<byte[]>> s_samples = new(StringComparer.Ordinal)
    {
        ["cluster-state"] = static () => ClusterStateCodec.Encode(Sample()),
        ["image"] = static () => new MetadataImage(new LogIndex(7), new Term(3), new Timestamp(0x123456789ABC), Sample()).Encode(),
        ["descriptor"] = static () => new ReplicaDescriptor(new ShardId(3), new SlotRange(0x4000, 0x7FFF), new Epoch(2)).Encode(),
        ["oracle-window"] = static () => new OracleWindowCommand(new Timestamp(1UL << 60)).Encode(),
        ["register-node"] = static () => States.Register("n4", 4, 300, 2).Encode(),
        ["raise-level"] = static () => new RaiseFeatureLevelCommand(2).Encode(),
        ["remove-node"] = static () => new RemoveNodeCommand("n4").Encode(),
        ["replace-node"] = static () => new ReplaceNodeCommand("n4", "10.0.0.9:7400", new Guid(4, 0, 0, new byte[8]), new Guid(5, 0, 0, new byte[8]), 1, 1).Encode(),
        ["leave-node"] = static () => new LeaveNodeCommand("n4").Encode(),
        ["add-replica"] = static () => new AddReplicaCommand(new ShardId(3), 300, "n4").Encode(),
        ["remove-replica"] = static () => new RemoveReplicaCommand(new ShardId(3), 301, new ReplicaId(17)).Encode(),
        ["end-change"] = static () => new EndChangeCommand(new ShardId(3), new ReplicaId(17)).Encode(),
        ["cancel-add"] = static () => new CancelAddCommand(new ShardId(3), new ReplicaId(17)).Encode(),
        ["prefer-leader"] = static () => new PreferLeaderCommand(new ShardId(3), new ReplicaId(17)).Encode(),
        ["split-shard"] = static () => new SplitShardCommand(new ShardId(3), new Epoch(2), new Slot(0x6000)).Encode(),
        ["end-split"] = static () => new EndSplitCommand(new ShardId(3), new ShardId(9)).Encode(),
        ["timestamps-request"] = static () => new TimestampsRequest(17, new Timestamp(5), true).Encode(),
        ["state-request"] = static () => new StateRequest(9, TimeSpan.FromSeconds(2)).Encode(),
        ["propose-request"] = static () => new ProposeRequest(new RemoveNodeCommand("n4")).Encode(),
        ["timestamps-answer"] = static () => new TimestampsAnswer(new Timestamp(77)).Encode(),
        ["state-answer-none"] = static () => new StateAnswer(null).Encode(),
        ["applied-answer"] = static () => new AppliedAnswer(MetadataOutcome.RestoredCopy).Encode(),
        ["not-leader-answer"] = static () => new NotLeaderAnswer("n2").Encode(),
        ["view"] = static () => View().Encode(),
        ["join"] = static () => new JoinRequest { ClusterName = "test", Node = States.Register("n4", 4, 1) }.Encode(),
        ["join-answer"] = static () => new JoinAnswer(null, FormationRefusal.OtherInstance, "test").Encode(),
        ["formation-file"] = static () => FileOf(MetadataFile.FormationMagic, [1, 2, 3]),
    };

    private static IEnumerable<TestCaseData> Cases() => TextScenarios.Load(FileName);

    [TestCaseSource(nameof(Cases))]
    public void Bytes_stay_as_they_are(string input, string expected) =>
        TextScenarios.Check(FileName, TestContext.CurrentContext.Test.Name, input, expected, static lines =>
            string.Join('\n', s_samples[lines[0]]().Chunk(32).Select(static chunk => Convert.ToHexStringLower(chunk))));

    [Test]
    public void A_state_comes_back_as_it_was()
    {
        byte[] bytes = ClusterStateCodec.Encode(Sample());
        ClusterState read = ClusterStateCodec.Decode(bytes);
        Assert.That(ClusterStateCodec.Encode(read), Is.EqualTo(bytes));
        Assert.That(read.Settings.PartitionRule, Is.EqualTo(PartitionRule.UpTo((byte)'/')));
        Assert.That(read.ShardOf(new Slot(0)).Shard, Is.EqualTo(new ShardId(1)));
        Assert.That(read.ShardOf(new Slot(ushort.MaxValue)).Shard, Is.EqualTo(new ShardId(4)));
        foreach (ShardInfo shard in read.Shards)
        {
            Assert.That(read.ShardOf(new Slot(shard.Slots.First)), Is.SameAs(shard));
            Assert.That(read.ShardOf(new Slot(shard.Slots.Last)), Is.SameAs(shard));
        }
    }

    [Test]
    public void Bytes_that_are_cut_or_go_on_are_refused()
    {
        byte[] bytes = ClusterStateCodec.Encode(Sample());
        for (int length = 0; length < bytes.Length; length++)
            Assert.That(() => ClusterStateCodec.Decode(bytes.AsSpan(0, length)), Throws.InstanceOf<InvalidDataException>(), $"{length} bytes");
        Assert.That(() => ClusterStateCodec.Decode([.. bytes, 0]), Throws.InstanceOf<InvalidDataException>());
    }

    [Test]
    public void Changed_bytes_never_give_anything_but_a_state_or_a_refusal([Range(1, 20)] int seed)
    {
        Random random = new(seed);
        byte[] state = ClusterStateCodec.Encode(Sample()), view = View().Encode();
        for (int i = 0; i < 2_000; i++)
        {
            byte[] changed = [.. i % 2 == 0 ? state : view];
            for (int n = random.Next(1, 4); n > 0; n--)
                changed[random.Next(changed.Length)] = (byte)random.Next(256);
            try
            {
                if (i % 2 == 0)
                    ClusterStateCodec.Decode(changed);
                else
                    FormationMessage.Decode(changed);
            }
            catch (InvalidDataException)
            {
                // Refused.
            }
        }
    }

    [Test]
    public void R42_messages_of_a_newer_kind_or_version_are_answered_so()
    {
        Assert.That(MetadataMessage.DecodeRequest([99, 1]), Is.Null);
        Assert.That(MetadataMessage.DecodeRequest([1, 2]), Is.Null);
        Assert.That(() => FormationMessage.Decode([1, 2]), Throws.InstanceOf<InvalidDataException>());
    }

    [Test]
    public void A_newer_file_is_a_setting_that_cannot_be_used_and_stays_as_it_is()
    {
        InMemoryFileSystem files = new();
        files.CreateDirectory("/d");
        byte[] bytes = FileOf(MetadataFile.FormationMagic, [1, 2, 3]);
        bytes[8] = 2;
        uint crc = Crc32C.Append(Crc32C.Compute(bytes.AsSpan(0, 16)), bytes.AsSpan(20));
        System.Buffers.Binary.BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(16), crc);
        using (IFile file = files.Open("/d/formation", FileOpenMode.CreateNew))
            file.Write(bytes, 0);
        Assert.That(() => MetadataFile.TryLoad(files, "/d/formation", MetadataFile.FormationMagic), Throws.InstanceOf<ConfigurationException>());
    }

    private static ClusterState Sample() => States.Formation();

    private static FormationView View() => new()
    {
        ClusterName = "test",
        NodeId = "n1",
        InstanceId = new Guid("00112233-4455-6677-8899-aabbccddeeff"),
        OpenCounter = 2,
        SupportedFeatureLevel = 1,
        Members = ["n1", "n2"],
        Standing = FormationStanding.Empty,
    };

    private static byte[] FileOf(ulong magic, byte[] content)
    {
        InMemoryFileSystem files = new();
        files.CreateDirectory("/d");
        MetadataFile.Save(files, "/d/f", magic, content);
        using IFile file = files.Open("/d/f", FileOpenMode.Read);
        byte[] bytes = new byte[file.Length];
        file.Read(bytes, 0);
        return bytes;
    }
}
