using CsCheck;

namespace ShardForge.Tests.Primitives;

public sealed class PartitionRuleTests
{
    // Slots are for ever: a change here loses every key of every cluster.
    [TestCase("", 0x2D06)]
    [TestCase("a", 0xE6C6)]
    [TestCase("user/1", 42000)]
    [TestCase("shardforge", 58410)]
    public void Slot_of_a_partition_key_never_changes(string key, int slot) =>
        Assert.That(Slot.OfPartitionKey(System.Text.Encoding.UTF8.GetBytes(key)).Value, Is.EqualTo(slot));

    [Test]
    public void Partition_key_is_what_the_rule_says()
    {
        Assert.Multiple(static () =>
        {
            Assert.That(PartitionRule.WholeKey.PartitionKeyOf("user/1"u8).ToArray(), Is.EqualTo("user/1"u8.ToArray()));
            Assert.That(PartitionRule.FixedLength(4).PartitionKeyOf("user/1"u8).ToArray(), Is.EqualTo("user"u8.ToArray()));
            Assert.That(PartitionRule.FixedLength(4).PartitionKeyOf("use"u8).ToArray(), Is.EqualTo("use"u8.ToArray()), "shorter than the rule: the whole key");
            Assert.That(PartitionRule.UpTo((byte)'/').PartitionKeyOf("user/1/2"u8).ToArray(), Is.EqualTo("user"u8.ToArray()), "the delimiter is not part of it");
            Assert.That(PartitionRule.UpTo((byte)'/').PartitionKeyOf("user"u8).ToArray(), Is.EqualTo("user"u8.ToArray()), "without the delimiter: the whole key");
        });
    }

    [Test]
    public void A_range_asks_one_shard_only_if_all_its_keys_share_a_partition_key()
    {
        PartitionRule upTo = PartitionRule.UpTo((byte)'/');
        Assert.Multiple(() =>
        {
            Assert.That(upTo.SlotOf(KeyRange.Prefix("user/"u8.ToArray())), Is.EqualTo(upTo.SlotOf("user/1"u8)));
            Assert.That(upTo.SlotOf(KeyRange.Prefix("user/1"u8.ToArray())), Is.EqualTo(upTo.SlotOf("user/1"u8)));
            Assert.That(upTo.SlotOf(KeyRange.Prefix("user"u8.ToArray())), Is.Null, "user2/1 starts with it as well");
            Assert.That(upTo.SlotOf(KeyRange.All), Is.Null);
            Assert.That(PartitionRule.WholeKey.SlotOf(KeyRange.Prefix("user"u8.ToArray())), Is.Null);
            Assert.That(PartitionRule.FixedLength(4).SlotOf(KeyRange.Prefix("user"u8.ToArray())), Is.EqualTo(PartitionRule.FixedLength(4).SlotOf("user/1"u8)));
            Assert.That(PartitionRule.FixedLength(5).SlotOf(KeyRange.Prefix("user"u8.ToArray())), Is.Null);
        });
    }

    [Test]
    public void Keys_of_a_range_with_one_slot_are_all_in_that_slot() =>
        Gen.Select(Gen.Byte[0, 2].Array[0, 5], Gen.Byte[0, 2].Array[0, 5], Gen.Byte[0, 2].Array[0, 5], Gen.Int[0, 5]).Sample(static (start, end, key, rule) =>
        {
            PartitionRule partition = rule == 0 ? PartitionRule.WholeKey : rule < 3 ? PartitionRule.FixedLength(rule) : PartitionRule.UpTo((byte)(rule - 3));
            KeyRange range = KeyRange.Between(start, end);
            return partition.SlotOf(range) is not { } slot || !range.Contains(key) || partition.SlotOf(key) == slot;
        }, iter: 20_000);

    [Test]
    public void Impossible_lengths_are_refused() => Assert.Multiple(static () =>
    {
        Assert.That(static () => PartitionRule.FixedLength(0), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(static () => PartitionRule.FixedLength(8193), Throws.InstanceOf<ArgumentOutOfRangeException>());
    });

    [Test]
    public void Parts_cover_every_slot_once([Values(1, 2, 3, 7, 8, 256, 4096)] int count)
    {
        int next = 0;
        for (int i = 0; i < count; i++)
        {
            SlotRange part = SlotRange.Part(i, count);
            Assert.That(part.First, Is.EqualTo(next));
            next = part.Last + 1;
        }

        Assert.That(next, Is.EqualTo(Slot.Count));
    }
}
