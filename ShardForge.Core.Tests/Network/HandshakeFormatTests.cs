using System.Buffers;
using System.Net;
using CsCheck;
using NUnit.Framework;
using ShardForge.Network;

namespace ShardForge.Tests.Network;

[Parallelizable(ParallelScope.All)]
public sealed class HandshakeFormatTests
{
    private static readonly HandshakeHello s_hello = PeerWorld.Hello("node-1") with { AdvertisedEndPoint = new IPEndPoint(IPAddress.Loopback, 7_000) };

    [Test]
    public void The_bytes_of_a_hello_are_these()
    {
        string[] expected =
        [
            "6E000000", "A0055EB8",                                              // length, crc
            "5346504C",                                                          // magic
            "01", "0100", "0100",                                                // hello; versions 1 to 1
            "01", "01",                                                          // purpose link, role peer
            "0807060504030201", "00000100", "01000000",                          // nonce, largest frame, feature level
            "5F0C8F6E000040008000000000000001", "0000000000004000800000000000000A",
            "0300000000000000", "0010000000000000",                              // open counter, log end
            "06" + "6E6F64652D32",                                               // expected: node-2
            "06" + "6E6F64652D31",                                               // node-1
            "05" + "7465737473",                                                 // tests
            "0E" + "3132372E302E302E313A37303030",                               // 127.0.0.1:7000
        ];
        Assert.That(Convert.ToHexString(Hello(s_hello)), Is.EqualTo(string.Concat(expected)));
    }

    [Test]
    public void A_hello_is_read_back()
    {
        foreach (EndPoint? address in new EndPoint?[] { null, new IPEndPoint(IPAddress.IPv6Loopback, 1), new DnsEndPoint("db-1.example", 65_535) })
        {
            HandshakeHello hello = s_hello with { AdvertisedEndPoint = address, ClusterId = Guid.Empty, NodeId = new string('n', 255), ClusterName = "grün", LogEnd = ulong.MaxValue };
            ReadOnlySequence<byte> buffer = new([.. Hello(hello), 1, 2]);

            Assert.That(HandshakeFormat.TryRead(ref buffer, ProtocolRange.Supported, out HandshakeMessage message), Is.True);

            Assert.That(message.Hello, Is.EqualTo(hello));
            Assert.That(message.Parameters, Is.EqualTo(new HelloParameters(0x0102_0304_0506_0708, 65_536, "node-2")));
            Assert.That(buffer.Length, Is.EqualTo(2));
        }
    }

    [Test]
    public void A_name_that_is_too_long_is_refused_by_its_own_side() =>
        Assert.That(Assert.Throws<LimitExceededException>(() => Hello(s_hello with { NodeId = new string('ü', 128) }))!.Actual, Is.EqualTo(256));

    [Test]
    public void A_refusal_is_read_whatever_its_version_and_its_text_is_cut_to_what_fits()
    {
        ArrayBufferWriter<byte> output = new();
        HandshakeFormat.WriteRefused(output, new ProtocolRange(8, 9), (RefusalCode)999, new string('é', 400));
        ReadOnlySequence<byte> buffer = new(output.WrittenMemory);

        Assert.That(HandshakeFormat.TryRead(ref buffer, ProtocolRange.Supported, out HandshakeMessage message), Is.True);

        Assert.That((message.Kind, (int)message.Code, message.Text), Is.EqualTo((HandshakeKind.Refused, 999, new string('é', 256))));
    }

    [Test]
    public void Every_prefix_waits_and_every_flipped_bit_is_refused()
    {
        byte[] hello = Hello(s_hello);
        for (int bytes = 0; bytes < hello.Length; bytes++)
        {
            ReadOnlySequence<byte> buffer = new(hello, 0, bytes);
            Assert.That(HandshakeFormat.TryRead(ref buffer, ProtocolRange.Supported, out _), Is.False);
        }

        for (int bit = 0; bit < hello.Length * 8; bit++)
        {
            byte[] damaged = [.. hello, .. new byte[HandshakeFormat.MessageBytesMax]];
            damaged[bit / 8] ^= (byte)(1 << (bit % 8));
            ReadOnlySequence<byte> buffer = new(damaged);
            Assert.That(
                Assert.Throws<PeerProtocolException>(() => HandshakeFormat.TryRead(ref buffer, ProtocolRange.Supported, out _))!.Code,
                Is.EqualTo(RefusalCode.NotAPeer), $"bit {bit}");
        }
    }

    [Test]
    public void Random_bytes_with_a_right_checksum_are_refused_or_read_and_nothing_else() =>
        Gen.Select(Gen.Byte.Array[0, 300], Gen.Int[0, 3]).Sample(
            (body, kind) =>
            {
                // Behind a right magic, kind and version, so that the parser of the rest is what is tried.
                byte[] message = [0, 0, 0, 0, 0, 0, 0, 0, 0x53, 0x46, 0x50, 0x4C, (byte)kind, 1, 0, 1, 0, .. body];
                BitConverter.TryWriteBytes(message, message.Length - 8);
                uint crc = ShardForge.Common.Crc32C.Append(ShardForge.Common.Crc32C.Compute(message.AsSpan(0, 4)), message.AsSpan(8));
                BitConverter.TryWriteBytes(message.AsSpan(4), crc);
                ReadOnlySequence<byte> buffer = new(message);
                try
                {
                    return HandshakeFormat.TryRead(ref buffer, ProtocolRange.Supported, out _);
                }
                catch (PeerProtocolException error)
                {
                    return error.Code == RefusalCode.NotAPeer;
                }
            },
            iter: 5_000);

    [TestCase("127.0.0.1:7000", ExpectedResult = "127.0.0.1:7000")]
    [TestCase("[::1]:7000", ExpectedResult = "[::1]:7000")]
    [TestCase("db-1.example:7000", ExpectedResult = "db-1.example:7000")]
    [TestCase("", ExpectedResult = "")]
    [TestCase("nonsense", ExpectedResult = "")]
    [TestCase("host:70000", ExpectedResult = "")]
    [TestCase(":7000", ExpectedResult = "")]
    public string An_address_survives_as_text(string text) => EndPointText.Format(EndPointText.Parse(text));

    private static byte[] Hello(HandshakeHello hello)
    {
        ArrayBufferWriter<byte> output = new();
        HandshakeFormat.WriteHello(output, ProtocolRange.Supported, new HelloParameters(0x0102_0304_0506_0708, 65_536, "node-2"), hello);
        return output.WrittenSpan.ToArray();
    }
}
