using System.Buffers;
using CsCheck;
using NUnit.Framework;
using ShardForge.Replication;
using static ShardForge.Tests.Replication.Requests;

namespace ShardForge.Tests.Replication;

internal sealed class ShardCodecTests
{
    private static readonly WriteRequest s_write = new()
    {
        Shard = new(7),
        Epoch = new(3),
        Id = new(0x1122334455667788, 0x99AABBCCDDEEFF00),
        KnownTimestamp = new(0x0102),
        IsRetry = true,
        HasCondition = true,
        Writes = [new KeyWrite(Bytes("k"), Bytes("v"))],
        ExpectedValue = Bytes("e"),
        Start = new Timestamp(5),
        ReadKeys = [Bytes("r")],
        ReadRanges = [KeyRange.Between(Bytes("a"), Bytes("b"))],
    };

    private static readonly WriteRequest s_prewrite = s_write with
    {
        Step = WriteStep.Prewrite,
        Age = new(7),
        Prewrite = new PrewriteSpec { Primary = Bytes("k"), Others = [Bytes("j")], IsExplicit = true },
        IsRetry = false,
        HasCondition = false,
        ExpectedValue = null,
        ReadKeys = [],
        ReadRanges = [],
    };

    private static readonly ValidateRequest s_validate = new()
    {
        Shard = new(7),
        Epoch = new(3),
        Transaction = new(1, 2),
        Start = new(5),
        Age = new(4),
        Commit = new(9),
        ReadKeys = [Bytes("r")],
        ReadRanges = [KeyRange.From(Bytes("a"))],
        Decided = [new DecidedTransaction(new(3, 4), new(8))],
    };

    private static readonly TransactionRequest s_hint = new()
    {
        Shard = new(7),
        Epoch = new(3),
        Question = TransactionQuestion.Hint,
        Transaction = new(1, 2),
        Keys = [Bytes("j"), Bytes("k")],
        Timestamp = new(9),
    };

    // The bytes are the wire format: a change here needs another version.
    [Test]
    public void The_bytes_of_each_kind_are_those_of_version_1()
    {
        Assert.That(Hex(Get("k", at: 9, shard: 7)), Is.EqualTo("0101" + "07000000" + "0000000000000000" + "01" + "0900000000000000" + "016B" + "00"));
        Assert.That(Hex(Scan(9, KeyRange.From(Bytes("a")), reverse: true, entriesMax: 2, shard: 7)), Is.EqualTo(
            "0102" + "07000000" + "0000000000000000" + "0161" + "00" + "0900000000000000" + "01" + "02000000" + "00001000" + "00"));
        Assert.That(Hex(s_write), Is.EqualTo(
            "0103" + "07000000" + "0300000000000000" + "8877665544332211" + "00FFEEDDCCBBAA99" + "0201000000000000" + "03" +
            "00" + "00" + "0000000000000000" + "0000000000000000" + "00" + "01" + "016B" + "010176" + "010165" + "010500000000000000" + "010172" + "01" + "0161" + "010162"));
        Assert.That(Hex(new ShardResponse { Status = ShardStatus.NotLeader, LeaderNode = "n2", Epoch = new(3), Message = "no" }), Is.EqualTo(
            "0102" + "01026E32" + "0300000000000000" + "01026E6F" + "00" + "0000000000000000" + "00" + "00" + "00" + "00"));
        Assert.That(Hex(new ShardResponse { Status = ShardStatus.Ok, Value = Bytes("v"), Timestamp = new(4), Entries = [new(Bytes("a"), Bytes("1"))], HasMore = true }), Is.EqualTo(
            "0101" + "00" + "0000000000000000" + "00" + "010176" + "0400000000000000" + "01" + "0161" + "0131" + "01" + "00" + "00"));
        Assert.That(Hex(s_prewrite), Is.EqualTo(
            "0103" + "07000000" + "0300000000000000" + "8877665544332211" + "00FFEEDDCCBBAA99" + "0201000000000000" + "00" +
            "01" + "00" + "0700000000000000" + "0000000000000000" + "01" + "016B" + "01" + "016A" + "01" + "01" + "016B" + "010176" + "00" + "010500000000000000" + "00" + "00"));
        Assert.That(Hex(s_validate), Is.EqualTo(
            "0105" + "07000000" + "0300000000000000" + "0100000000000000" + "0200000000000000" + "0500000000000000" + "0400000000000000" + "0900000000000000" + "01" + "0172" + "01" + "0161" + "00" +
            "01" + "0300000000000000" + "0400000000000000" + "0800000000000000"));
        Assert.That(Hex(s_hint), Is.EqualTo("0106" + "07000000" + "0300000000000000" + "03" + "0100000000000000" + "0200000000000000" + "0900000000000000" + "02" + "016A" + "016B"));
    }

    [Test]
    public void What_is_absent_stays_absent_and_what_is_empty_stays_empty()
    {
        WriteRequest request = (WriteRequest)RoundTrip(s_write with { ExpectedValue = null, Start = null, Writes = [new KeyWrite(Bytes(""), null)], ReadRanges = [KeyRange.All] });
        Assert.That((request.ExpectedValue, request.Start, request.Writes[0].Value, request.ReadRanges[0]), Is.EqualTo(((ReadOnlyMemory<byte>?)null, (Timestamp?)null, (ReadOnlyMemory<byte>?)null, KeyRange.All)));
        request = (WriteRequest)RoundTrip(s_write with { ExpectedValue = Bytes(""), Writes = [new KeyWrite(Bytes(""), Bytes(""))] });
        Assert.That((request.ExpectedValue!.Value.Length, request.Writes[0].Value!.Value.Length), Is.EqualTo((0, 0)));
        Assert.That(((GetRequest)RoundTrip(Get("k"))).ReadAt, Is.Null);
        Assert.That(((ScanRequest)RoundTrip(Scan(1))).Range, Is.EqualTo(KeyRange.All));
        ArrayBufferWriter<byte> bytes = new();
        ShardCodec.Write(bytes, new ShardResponse { Status = ShardStatus.Ok });
        ShardResponse response = ShardCodec.ReadResponse(bytes.WrittenSpan);
        Assert.That((response.Value, response.LeaderNode, response.Message), Is.EqualTo(((byte[]?)null, (string?)null, (string?)null)));
    }

    [Test]
    public void Every_shorter_and_every_longer_message_is_refused()
    {
        byte[][] messages = [Encode(s_write), Encode(Get("k", at: 9)), Encode(Scan(9)), Encode(s_prewrite), Encode(s_validate), Encode(s_hint)];
        foreach (byte[] message in messages)
        {
            for (int length = 0; length < message.Length; length++)
                Assert.That(() => ShardCodec.ReadRequest(message.AsSpan(0, length)), Throws.InstanceOf<InvalidDataException>(), $"{length} bytes of {message.Length}");
            Assert.That(() => ShardCodec.ReadRequest([.. message, 0]), Throws.InstanceOf<InvalidDataException>());
        }
    }

    [Test]
    public void Random_bytes_are_refused_without_any_other_error() =>
        Gen.Byte.Array[0, 80].Sample(bytes =>
        {
            try
            {
                _ = ShardCodec.ReadRequest([1, (byte)(1 + (bytes.Length % 6)), .. bytes]);
            }
            catch (InvalidDataException)
            {
            }

            try
            {
                _ = ShardCodec.ReadResponse([1, 1, .. bytes]);
            }
            catch (InvalidDataException)
            {
            }
        }, iter: 20_000);

    private static byte[] Encode(ShardRequest request)
    {
        ArrayBufferWriter<byte> bytes = new();
        ShardCodec.Write(bytes, request);
        return bytes.WrittenSpan.ToArray();
    }

    private static string Hex(ShardRequest request) => Convert.ToHexString(Encode(request));

    private static string Hex(ShardResponse response)
    {
        ArrayBufferWriter<byte> bytes = new();
        ShardCodec.Write(bytes, response);
        return Convert.ToHexString(bytes.WrittenSpan);
    }

    private static ShardRequest RoundTrip(ShardRequest request)
    {
        ShardRequest read = ShardCodec.ReadRequest(Encode(request));
        Assert.That(Encode(read), Is.EqualTo(Encode(request)));
        return read;
    }
}
