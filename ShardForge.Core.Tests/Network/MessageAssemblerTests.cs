using System.Buffers;
using CsCheck;
using NUnit.Framework;
using ShardForge.Network;

namespace ShardForge.Tests.Network;

[Parallelizable(ParallelScope.All)]
public sealed class MessageAssemblerTests
{
    private const int MessageBytesMax = 10_000;

    [Test]
    public void What_the_queue_cuts_is_put_together_again() =>
        Gen.Select(Gen.Int[0, 3], Gen.Int[0, MessageBytesMax]).Array[1, 30].Sample(
            messages =>
            {
                SendQueue queue = new(1_024, long.MaxValue, int.MaxValue);
                using MessageAssembler assembler = new(MessageBytesMax);
                for (int i = 0; i < messages.Length; i++)
                {
                    (int priority, int bytes) = messages[i];
                    queue.Add(new OutgoingMessage(FrameKind.Request, (PeerPriority)priority, 9, (ulong)i, PeerBuffer.Copy(Pattern(i, bytes))));
                }

                HashSet<ulong> whole = [];
                while (queue.TryNext(out OutgoingFrame frame))
                {
                    byte[] payload = frame.TotalBytes is int total ? [.. BitConverter.GetBytes(total), .. frame.Payload] : frame.Payload.ToArray();
                    FrameHeader header = Header(frame.Flags, frame.Message.Priority, frame.Message.Correlation);
                    if (frame.IsLast)
                        frame.Message.Payload!.Dispose();
                    if (!assembler.TryComplete(header, new ReadOnlySequence<byte>(payload), out PeerBuffer? message))
                        continue;
                    int number = (int)header.Correlation;
                    if (!whole.Add(header.Correlation) || !message!.Span.SequenceEqual(Pattern(number, messages[number].Item2)))
                        return false;
                    message.Dispose();
                }

                return whole.Count == messages.Length;
            },
            iter: 100);

    [Test]
    public void An_abandoned_message_makes_room_for_the_next()
    {
        using MessageAssembler assembler = new(MessageBytesMax);
        Assert.That(Take(assembler, FrameFlags.First, [.. BitConverter.GetBytes(100), 1, 2]), Is.Null);
        Assert.That(Take(assembler, FrameFlags.Last | FrameFlags.Abandoned, []), Is.Null);
        Assert.That(Take(assembler, FrameFlags.First, [.. BitConverter.GetBytes(4), 3, 4]), Is.Null);
        Assert.That(Take(assembler, FrameFlags.Last, [5, 6]), Is.EqualTo(new byte[] { 3, 4, 5, 6 }));
    }

    [Test]
    public void A_message_may_be_as_large_as_the_limit_and_not_larger()
    {
        using MessageAssembler assembler = new(MessageBytesMax);
        Refused(assembler, FrameFlags.First, [.. BitConverter.GetBytes(MessageBytesMax + 1), 1], "10,001");
        Refused(assembler, FrameFlags.First, [.. BitConverter.GetBytes(-1), 1], "4,294,967,295");
        Assert.That(Take(assembler, FrameFlags.First, [.. BitConverter.GetBytes(MessageBytesMax), .. new byte[MessageBytesMax - 1]]), Is.Null);
        Assert.That(Take(assembler, FrameFlags.Last, [1]), Has.Length.EqualTo(MessageBytesMax));
    }

    [Test]
    public void Fragments_that_do_not_fit_together_are_refused()
    {
        Refused(new(MessageBytesMax), FrameFlags.Last, [1], "continues nothing");
        Refused(new(MessageBytesMax), FrameFlags.None, [1], "continues nothing");
        Refused(new(MessageBytesMax), FrameFlags.First, [1, 2, 3], "of 3 bytes");
        Refused(new(MessageBytesMax), FrameFlags.First, BitConverter.GetBytes(9), "of 4 bytes");
        Refused(new(MessageBytesMax), FrameFlags.Whole | FrameFlags.Abandoned, [], "abandoned");
        Refused(Begun(), FrameFlags.First, [.. BitConverter.GetBytes(9), 1], "within");
        Refused(Begun(), FrameFlags.Last, [1], "ended after");
        Refused(Begun(), FrameFlags.None, [], "of 0 bytes");
        Refused(Begun(), FrameFlags.None, [1, 2, 3, 4, 5, 6, 7, 8], "of 8 bytes");
        Refused(Begun(), FrameFlags.Last, [1, 2, 3, 4, 5, 6, 7, 8], "of 8 bytes");
        Refused(Begun(), FrameFlags.Last, [1], "continues nothing", correlation: 2);
    }

    private static MessageAssembler Begun()
    {
        MessageAssembler assembler = new(MessageBytesMax);
        Take(assembler, FrameFlags.First, [.. BitConverter.GetBytes(9), 1, 2]);
        return assembler;
    }

    private static byte[]? Take(MessageAssembler assembler, FrameFlags flags, byte[] payload, ulong correlation = 1)
    {
        if (!assembler.TryComplete(Header(flags, PeerPriority.Request, correlation), new ReadOnlySequence<byte>(payload), out PeerBuffer? message))
            return null;
        using (message)
            return message!.Span.ToArray();
    }

    private static void Refused(MessageAssembler assembler, FrameFlags flags, byte[] payload, string text, ulong correlation = 1)
    {
        PeerProtocolException error = Assert.Throws<PeerProtocolException>(() => Take(assembler, flags, payload, correlation))!;
        Assert.That(error.Code, Is.EqualTo(RefusalCode.Corruption));
        Assert.That(error.Message, Does.Contain(text));
        if (flags != FrameFlags.First || text.Contains("within", StringComparison.Ordinal))
            assembler.Dispose();
    }

    private static FrameHeader Header(FrameFlags flags, PeerPriority priority, ulong correlation) => new(1, FrameKind.Request, flags, priority, 9, 0, correlation);

    private static byte[] Pattern(int number, int bytes)
    {
        byte[] pattern = new byte[bytes];
        new Random(number).NextBytes(pattern);
        return pattern;
    }
}
