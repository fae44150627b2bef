using CsCheck;
using NUnit.Framework;
using ShardForge.Mvcc;

namespace ShardForge.Tests.Mvcc;

/// <summary>Bytes of values: for ever, as data of every released version has them.</summary>
internal sealed class MvccFormatTests
{
    private static readonly OperationId s_id = new(0x0102030405060708, 0x090A0B0C0D0E0F10);

    private static readonly LockRecord s_lock = new()
    {
        MinimumCommit = new(0x11),
        Transaction = s_id,
        Start = new(0x10),
        Primary = "p"u8.ToArray(),
        Others = ["q"u8.ToArray(), []],
        IsExplicit = true,
        Value = "v"u8.ToArray(),
    };

    private const string IdBytes = "0807060504030201" + "100F0E0D0C0B0A09";

    [Test]
    public void R25_A_version_header_has_these_bytes()
    {
        Assert.That(Hex(new VersionHeader()), Is.EqualTo("00"));
        Assert.That(Hex(new VersionHeader { IsDeleted = true }), Is.EqualTo("01"));
        Assert.That(Hex(new VersionHeader { Expiry = new(0x22) }), Is.EqualTo("02" + "2200000000000000"));
        Assert.That(Hex(new VersionHeader { Operation = s_id }), Is.EqualTo("04" + IdBytes));
        Assert.That(Hex(new VersionHeader { IsDeleted = true, Expiry = new(0x22), Operation = s_id }), Is.EqualTo("07" + "2200000000000000" + IdBytes));
    }

    [Test]
    public void A_version_header_is_read_back() =>
        Gen.Select(Gen.Bool, Gen.ULong, Gen.ULong, Gen.ULong).Sample((deleted, expiry, high, low) =>
        {
            VersionHeader header = new() { IsDeleted = deleted, Expiry = new(expiry % 2 == 0 ? 0 : expiry), Operation = new(high, low) };
            byte[] bytes = new byte[VersionHeader.BytesMax + 3];
            int length = header.Write(bytes);
            return VersionHeader.Read(bytes, out int headerBytes) == header && headerBytes == length && length == header.Bytes;
        });

    [Test]
    public void A_version_header_that_this_build_does_not_know_is_refused()
    {
        for (int flags = 8; flags < 256; flags++)
            Assert.That(() => VersionHeader.Read([(byte)flags, .. new byte[32]], out _), Throws.InstanceOf<InvalidDataException>(), $"flags {flags:X2}");
        Assert.That(() => VersionHeader.Read([], out _), Throws.InstanceOf<InvalidDataException>());
        Assert.That(() => VersionHeader.Read([6, .. new byte[23]], out _), Throws.InstanceOf<InvalidDataException>());
    }

    [Test]
    public void R14_A_lock_has_these_bytes_and_is_read_back()
    {
        byte[] bytes = s_lock.Encode();
        Assert.That(Convert.ToHexString(bytes), Is.EqualTo("01" + "01" + "1100000000000000" + IdBytes + "1000000000000000" + "0170" + "02" + "0171" + "00" + "0176"));
        LockRecord read = LockRecord.Decode(bytes);
        Assert.That(read.Encode(), Is.EqualTo(bytes));
        Assert.That((read.MinimumCommit, read.Transaction, read.Start, read.IsExplicit, read.Others.Count), Is.EqualTo((s_lock.MinimumCommit, s_id, s_lock.Start, true, 2)));
        Assert.That(LockRecord.ReadMinimumCommit(bytes), Is.EqualTo(s_lock.MinimumCommit));
        Assert.That(LockRecord.Decode((s_lock with { Value = null }).Encode()).Value, Is.Null);
        Assert.That(LockRecord.Decode((s_lock with { Value = [] }).Encode()).Value, Is.Empty);
    }

    [Test]
    public void A_lock_that_is_cut_or_of_another_version_is_refused()
    {
        byte[] bytes = s_lock.Encode();
        for (int length = 0; length < bytes.Length; length++)
            Assert.That(() => LockRecord.Decode(bytes.AsSpan(0, length)), Throws.InstanceOf<InvalidDataException>(), $"{length} bytes");
        Assert.That(() => LockRecord.Decode([.. bytes, 0]), Throws.InstanceOf<InvalidDataException>());
        Assert.That(() => LockRecord.Decode([2, .. bytes.AsSpan(1)]), Throws.InstanceOf<InvalidDataException>());
        Assert.That(() => LockRecord.Decode([1, 4, .. bytes.AsSpan(2)]), Throws.InstanceOf<InvalidDataException>());
    }

    [Test]
    public void R18_An_operations_record_has_these_bytes_and_is_read_back()
    {
        OperationRecord record = new(IsCommitted: true, new(0x11), new(0x12));
        byte[] bytes = new byte[OperationRecord.Bytes];
        record.Write(bytes);
        Assert.That(Convert.ToHexString(bytes), Is.EqualTo("01" + "01" + "1100000000000000" + "1200000000000000"));
        Assert.That(OperationRecord.Read(bytes), Is.EqualTo(record));
        Assert.That(() => OperationRecord.Read(bytes.AsSpan(1)), Throws.InstanceOf<InvalidDataException>());
        Assert.That(() => OperationRecord.Read([2, .. bytes.AsSpan(1)]), Throws.InstanceOf<InvalidDataException>());
    }

    private static string Hex(VersionHeader header)
    {
        byte[] bytes = new byte[VersionHeader.BytesMax];
        return Convert.ToHexString(bytes.AsSpan(0, header.Write(bytes)));
    }
}
