using System.Buffers;
using CsCheck;
using NUnit.Framework;
using ShardForge.Network;

namespace ShardForge.Tests.Network;

[Parallelizable(ParallelScope.All)]
public sealed class FrameFormatTests
{
    private const uint Seed = 0x1234_5678;
    private const int FrameBytesMax = 2_048;

    [Test]
    public void The_bytes_of_a_frame_are_these()
    {
        byte[] frame = Frame(new FrameHeader(1, FrameKind.Request, FrameFlags.Whole, PeerPriority.Request, 3, 7, 258), null, [0xAA, 0xBB]);

        string[] expected =
        [
            "1A000000",                                                          // length: 26
            "BFF22002",                                                          // crc
            "01", "01", "03", "02",                                              // version, kind request, flags whole, priority request
            "0300", "0000",                                                      // code: service 3; zero
            "0700000000000000",                                                  // sequence
            "0201000000000000",                                                  // correlation
            "AABB",
        ];
        Assert.That(Convert.ToHexString(frame), Is.EqualTo(string.Concat(expected)));
    }

    [Test]
    public void The_bytes_of_a_first_fragment_start_with_the_length_of_the_message()
    {
        byte[] frame = Frame(new FrameHeader(1, FrameKind.Reply, FrameFlags.First, PeerPriority.Bulk, 0, 0, 1), 1_000, [0xCC]);

        Assert.That(Convert.ToHexString(frame.AsSpan(FrameFormat.HeaderBytes)), Is.EqualTo("E8030000" + "CC"));
    }

    [Test]
    public void Seeds_differ_by_nonce_and_direction() =>
        Assert.That(
            new[]
            {
                FrameFormat.Seed(1, 2, LinkDirection.Outgoing), FrameFormat.Seed(1, 2, LinkDirection.Incoming), FrameFormat.Seed(2, 1, LinkDirection.Outgoing),
                FrameFormat.Seed(2, 1, LinkDirection.Incoming), FrameFormat.Seed(1, 3, LinkDirection.Outgoing),
            },
            Is.Unique);

    [Test]
    public void Frames_are_read_back_wherever_the_stream_is_cut() =>
        Gen.Select(s_genFrames, Gen.Int[0, int.MaxValue]).Sample(
            (frames, cutSeed) =>
            {
                byte[] stream = [.. frames.SelectMany(frame => Frame(frame.Header, Total(frame.Header), frame.Payload))];
                Random cuts = new(cutSeed);
                List<byte[]> pieces = [];
                for (int at = 0; at < stream.Length;)
                {
                    int bytes = Math.Min(stream.Length - at, 1 + cuts.Next(cuts.Next(2) == 0 ? 3 : 100));
                    pieces.Add(stream[at..(at + bytes)]);
                    at += bytes;
                }

                int read = 0;
                for (int arrived = 1; arrived <= pieces.Count; arrived++)
                {
                    // As a pipe gives it: all that has arrived and was not consumed, in its pieces.
                    ReadOnlySequence<byte> buffer = Sequence([.. pieces.Take(arrived)]).Slice(frames.Take(read).Sum(FrameBytes));
                    while (FrameFormat.TryRead(ref buffer, Seed, 1, FrameBytesMax, out FrameHeader header, out ReadOnlySequence<byte> payload))
                    {
                        (FrameHeader Header, byte[] Payload) frame = frames[read++];
                        byte[] expected = Total(frame.Header) is int total ? [.. BitConverter.GetBytes(total), .. frame.Payload] : frame.Payload;
                        if (header != frame.Header || !payload.ToArray().AsSpan().SequenceEqual(expected))
                            return false;
                    }
                }

                return read == frames.Length;
            },
            iter: 300);

    [Test]
    public void A_frame_that_is_cut_off_is_not_there_yet()
    {
        byte[] frame = Frame(new FrameHeader(1, FrameKind.OneWay, FrameFlags.Whole, PeerPriority.Raft, 1, 0, 0), null, new byte[40]);
        for (int bytes = 0; bytes < frame.Length; bytes++)
        {
            ReadOnlySequence<byte> buffer = new(frame, 0, bytes);
            Assert.That(FrameFormat.TryRead(ref buffer, Seed, 1, FrameBytesMax, out _, out _), Is.False, $"after {bytes} bytes");
            Assert.That(buffer.Length, Is.EqualTo(bytes));
        }
    }

    [Test]
    public void A_flipped_bit_anywhere_in_a_frame_is_noticed()
    {
        FrameHeader original = new(1, FrameKind.Request, FrameFlags.Whole, PeerPriority.Request, 3, 11, 12);
        byte[] frame = Frame(original, null, [1, 2, 3, 4, 5, 6, 7]);
        for (int bit = 0; bit < frame.Length * 8; bit++)
        {
            byte[] damaged = [.. frame];
            damaged[bit / 8] ^= (byte)(1 << (bit % 8));

            // A larger length waits for bytes that are not there; given those of a following frame, it fails too.
            ReadOnlySequence<byte> alone = new(damaged);
            ReadOnlySequence<byte> followed = new([.. damaged, .. Enumerable.Repeat(frame, 70).SelectMany(bytes => bytes)]);
            Assert.That(Outcome(ref alone), Is.EqualTo(RefusalCode.Corruption).Or.EqualTo(RefusalCode.None), $"bit {bit}");
            Assert.That(Outcome(ref followed), Is.EqualTo(RefusalCode.Corruption), $"bit {bit}");
        }

        static RefusalCode Outcome(ref ReadOnlySequence<byte> buffer)
        {
            try
            {
                Assert.That(FrameFormat.TryRead(ref buffer, Seed, 1, FrameBytesMax, out _, out _), Is.False);
                return RefusalCode.None;
            }
            catch (PeerProtocolException error)
            {
                return error.Code;
            }
        }
    }

    [Test]
    public void A_frame_of_another_connection_or_direction_fails_its_checksum()
    {
        ReadOnlySequence<byte> buffer = new(Frame(new FrameHeader(1, FrameKind.Ping, FrameFlags.Whole, PeerPriority.Control, 0, 0, 0), null, []));

        Assert.That(
            Assert.Throws<PeerProtocolException>(() => FrameFormat.TryRead(ref buffer, Seed + 1, 1, FrameBytesMax, out _, out _))!.Code,
            Is.EqualTo(RefusalCode.Corruption));
    }

    [TestCase(0u)]
    [TestCase(23u)]
    [TestCase(FrameBytesMax - 7u)]
    [TestCase(0x2045_4847u, Description = "GET ")]
    [TestCase(uint.MaxValue)]
    public void A_length_out_of_bounds_is_refused_before_its_bytes_come(uint length)
    {
        ReadOnlySequence<byte> buffer = new(BitConverter.GetBytes(length));

        PeerProtocolException error = Assert.Throws<PeerProtocolException>(() => FrameFormat.TryRead(ref buffer, Seed, 1, FrameBytesMax, out _, out _))!;
        Assert.That(error.Code, Is.EqualTo(RefusalCode.Corruption));
        Assert.That(error.Message, Does.Contain($"{length:N0}").And.Contain("2,040"));
    }

    [TestCase(2, 1, 3, 0)]
    [TestCase(0, 1, 3, 0)]
    [TestCase(1, 0, 3, 0)]
    [TestCase(1, 7, 3, 0)]
    [TestCase(1, 255, 3, 0)]
    [TestCase(1, 1, 8, 0)]
    [TestCase(1, 1, 3, 4)]
    public void R42_an_unknown_version_kind_flag_or_priority_is_refused_not_skipped(byte version, byte kind, byte flags, byte priority)
    {
        ReadOnlySequence<byte> buffer = new(Frame(new FrameHeader(version, (FrameKind)kind, (FrameFlags)flags, (PeerPriority)priority, 0, 0, 0), null, []));

        Assert.That(
            Assert.Throws<PeerProtocolException>(() => FrameFormat.TryRead(ref buffer, Seed, 1, FrameBytesMax, out _, out _))!.Code,
            Is.EqualTo(RefusalCode.UnknownFrame));
    }

    [Test]
    public void Random_bytes_are_refused_or_wait_and_never_make_a_frame() =>
        Gen.Byte.Array[0, 200].Sample(
            bytes =>
            {
                ReadOnlySequence<byte> buffer = new(bytes);
                try
                {
                    return !FrameFormat.TryRead(ref buffer, Seed, 1, FrameBytesMax, out _, out _);
                }
                catch (PeerProtocolException error)
                {
                    return error.Code == RefusalCode.Corruption;
                }
            },
            iter: 2_000);

    private static readonly Gen<(FrameHeader Header, byte[] Payload)[]> s_genFrames = Gen.Select(
        Gen.Int[1, 6], Gen.Int[0, 2], Gen.Int[0, 3], Gen.UShort, Gen.ULong, Gen.ULong, Gen.Byte.Array[0, 300],
        (kind, flags, priority, code, sequence, correlation, payload) =>
            (new FrameHeader(1, (FrameKind)kind, new[] { FrameFlags.Whole, FrameFlags.First, FrameFlags.Last }[flags], (PeerPriority)priority, code, sequence, correlation), payload)).Array[1, 8];

    private static int? Total(in FrameHeader header) => header.Flags == FrameFlags.First ? 77_777 : null;

    private static long FrameBytes((FrameHeader Header, byte[] Payload) frame) =>
        FrameFormat.HeaderBytes + (Total(frame.Header) is null ? 0 : FrameFormat.TotalBytes) + frame.Payload.Length;

    internal static byte[] Frame(in FrameHeader header, int? total, ReadOnlySpan<byte> payload, uint seed = Seed)
    {
        byte[] frame = new byte[FrameFormat.HeaderBytes + (total is null ? 0 : FrameFormat.TotalBytes) + payload.Length];
        FrameFormat.Write(frame, seed, header, total, payload);
        return frame;
    }

    internal static ReadOnlySequence<byte> Sequence(byte[][] pieces)
    {
        Piece? first = null, last = null;
        foreach (byte[] piece in pieces)
        {
            last = new Piece(piece, last);
            first ??= last;
        }

        return first is null ? default : new ReadOnlySequence<byte>(first, 0, last!, last!.Memory.Length);
    }

    private sealed class Piece : ReadOnlySequenceSegment<byte>
    {
        public Piece(byte[] bytes, Piece? previous)
        {
            Memory = bytes;
            if (previous is null)
                return;
            RunningIndex = previous.RunningIndex + previous.Memory.Length;
            previous.Next = this;
        }
    }
}
