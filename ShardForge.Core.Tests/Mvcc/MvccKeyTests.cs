using CsCheck;
using NUnit.Framework;
using ShardForge.Mvcc;

namespace ShardForge.Tests.Mvcc;

internal sealed class MvccKeyTests
{
    // Bytes around which the escape could go wrong, and any others.
    private static readonly Gen<byte[]> s_keys = Gen.OneOf(Gen.Int[0, 4].Select(i => (byte)(i < 3 ? i : 251 + i)), Gen.Byte).Array[0, 6];

    // For ever: data of every released version has these bytes.
    [TestCase("", 1UL, "40" + "0001" + "FFFFFFFFFFFFFFFE")]
    [TestCase("61", 0x0102030405060708UL, "40" + "61" + "0001" + "FEFDFCFBFAF9F8F7")]
    [TestCase("6100", 0UL, "40" + "6100FF" + "0001" + "FFFFFFFFFFFFFFFF")]
    [TestCase("00FF01", ulong.MaxValue, "40" + "00FFFF01" + "0001" + "0000000000000000")]
    public void A_version_has_these_bytes(string userKey, ulong timestamp, string expected) =>
        Assert.That(Convert.ToHexString(Version(Convert.FromHexString(userKey), new(timestamp))), Is.EqualTo(expected));

    [Test]
    public void Locks_operations_and_local_keys_have_these_bytes()
    {
        byte[] target = new byte[64];
        int length = MvccKey.WriteLock(target, [0x61, 0x00]);
        Assert.That(Convert.ToHexString(target.AsSpan(0, length)), Is.EqualTo("20" + "6100FF" + "0001" + "0000000000000000"));
        length = MvccKey.WriteOperation(target, [0x61], OperationRecordKind.Decision, new(0x0102030405060708, 0x090A0B0C0D0E0F10));
        Assert.That(Convert.ToHexString(target.AsSpan(0, length)), Is.EqualTo("30" + "61" + "0001" + "02" + "0102030405060708" + "090A0B0C0D0E0F10"));
        Assert.That(Convert.ToHexString(MvccKey.Local(1)), Is.EqualTo("1001" + "0000000000000000"));
    }

    [Test]
    public void Encoded_keys_are_ordered_by_key_and_then_newest_first() =>
        Gen.Select(s_keys, Gen.ULong, s_keys, Gen.ULong).Sample((key1, timestamp1, key2, timestamp2) =>
        {
            int expected = Math.Sign(key1.AsSpan().SequenceCompareTo(key2));
            if (expected == 0)
                expected = timestamp2.CompareTo(timestamp1);
            return Math.Sign(Version(key1, new(timestamp1)).AsSpan().SequenceCompareTo(Version(key2, new(timestamp2)))) == expected;
        });

    [Test]
    public void What_is_written_is_read_back() =>
        Gen.Select(s_keys, Gen.ULong).Sample((key, timestamp) =>
        {
            byte[] encoded = Version(key, new(timestamp)), userKey = new byte[encoded.Length];
            return MvccKey.TryReadVersion(encoded, userKey, out int length, out Timestamp read) && userKey.AsSpan(0, length).SequenceEqual(key) && read.Value == timestamp;
        });

    [TestCase("", TestName = "nothing")]
    [TestCase("20" + "61" + "0001" + "0000000000000000", TestName = "another space")]
    [TestCase("40" + "61" + "0000000000000000", TestName = "an escape that is none")]
    [TestCase("40" + "61" + "00", TestName = "an end inside an escape")]
    [TestCase("40" + "61" + "0001" + "00000000000000", TestName = "a short suffix")]
    [TestCase("40" + "61" + "0001" + "000000000000000000", TestName = "a long suffix")]
    public void What_is_no_version_is_refused(string bytes)
    {
        byte[] key = Convert.FromHexString(bytes);
        Assert.That(MvccKey.TryReadVersion(key, new byte[key.Length], out _, out _), Is.False);
    }

    [Test]
    public void R24_A_prefix_range_holds_exactly_the_keys_with_that_prefix() =>
        Gen.Select(s_keys, s_keys, Gen.ULong).Sample((prefix, key, timestamp) =>
        {
            byte[] encoded = Version(key, new(timestamp));
            bool expected = key.AsSpan().StartsWith(prefix);
            // A prefix can be asked for by its own bounds, and as the range of user keys that it is.
            return MvccKey.PrefixRange(KeySpace.Version, prefix).Contains(encoded) == expected && MvccKey.VersionRange(KeyRange.Prefix(prefix)).Contains(encoded) == expected;
        });

    [Test]
    public void A_range_of_user_keys_holds_exactly_their_versions() =>
        Gen.Select(s_keys, s_keys, s_keys, Gen.ULong).Sample((start, end, key, timestamp) =>
        {
            KeyRange[] ranges = [KeyRange.Between(start, end), KeyRange.From(start), KeyRange.All];
            return ranges.All(range => MvccKey.VersionRange(range).Contains(Version(key, new(timestamp))) == range.Contains(key));
        });

    private static byte[] Version(byte[] userKey, Timestamp timestamp)
    {
        byte[] key = new byte[MvccKey.BytesMax(userKey.Length)];
        return key[..MvccKey.WriteVersion(key, userKey, timestamp)];
    }
}
