using CsCheck;

namespace ShardForge.Tests.Primitives;

public sealed class KeyRangeTests
{
    [Test]
    public void Default_and_the_empty_prefix_are_all() => Assert.Multiple(static () =>
    {
        Assert.That(default(KeyRange), Is.EqualTo(KeyRange.All));
        Assert.That(KeyRange.Prefix(default), Is.EqualTo(KeyRange.All));
        Assert.That(KeyRange.All.Contains([]), Is.True);
        Assert.That(KeyRange.All.Contains([0xFF, 0xFF]), Is.True);
    });

    [Test]
    public void Between_with_its_end_at_or_below_its_start_is_empty() => Assert.Multiple(static () =>
    {
        Assert.That(KeyRange.Between(new byte[] { 2 }, new byte[] { 2 }).IsEmpty, Is.True);
        Assert.That(KeyRange.Between(new byte[] { 2 }, new byte[] { 1 }).IsEmpty, Is.True);
        Assert.That(KeyRange.Between(default, default).IsEmpty, Is.True);
        Assert.That(KeyRange.Between(new byte[] { 1 }, new byte[] { 1, 0 }).IsEmpty, Is.False);
    });

    [Test]
    public void A_prefix_holds_exactly_the_keys_that_start_with_it() =>
        Gen.Select(Gen.OneOf(Gen.Byte[0, 1], Gen.Byte[0xFE, 0xFF]).Array[0, 4], Gen.OneOf(Gen.Byte[0, 1], Gen.Byte[0xFE, 0xFF]).Array[0, 6])
            .Sample(static (prefix, key) => KeyRange.Prefix(prefix).Contains(key) == key.AsSpan().StartsWith(prefix), iter: 20_000);
}
