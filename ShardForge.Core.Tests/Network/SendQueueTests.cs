using NUnit.Framework;
using ShardForge.Network;

namespace ShardForge.Tests.Network;

[Parallelizable(ParallelScope.All)]
public sealed class SendQueueTests
{
    private const int FrameBytesMax = 1_024;

    [Test]
    public void The_most_urgent_goes_first_and_equals_keep_their_order()
    {
        SendQueue queue = Queue();
        Add(queue, 1, 10, PeerPriority.Bulk);
        Add(queue, 2, 10, PeerPriority.Request);
        Add(queue, 3, 10, PeerPriority.Control);
        Add(queue, 4, 10, PeerPriority.Request);
        Add(queue, 5, 10, PeerPriority.Raft);

        Assert.That(Drain(queue), Is.EqualTo("3 5 2 4 1"));
    }

    [Test]
    public void A_large_message_gives_way_to_small_ones_after_each_fragment()
    {
        SendQueue queue = Queue();
        Add(queue, 1, 3_000, PeerPriority.Request);
        Assert.That(Next(queue), Is.EqualTo("1:First:988"));
        Add(queue, 2, 10, PeerPriority.Request);
        Add(queue, 3, 10, PeerPriority.Raft);

        Assert.That(Drain(queue), Is.EqualTo("3 2 1:None:992 1:None:992 1:Last:28"));
    }

    [Test]
    public void Small_messages_do_not_starve_a_large_one()
    {
        SendQueue queue = Queue();
        Add(queue, 1, 2_000, PeerPriority.Request);
        for (ulong i = 0; i < 6; i++)
            Add(queue, 10 + i, 400, PeerPriority.Request);

        Assert.That(Drain(queue), Is.EqualTo("10 11 12 1:First:988 13 14 15 1:None:992 1:Last:20"));
    }

    [Test]
    public void Large_messages_of_one_priority_go_one_after_the_other_of_two_priorities_they_interleave()
    {
        SendQueue queue = Queue();
        Add(queue, 1, 1_500, PeerPriority.Bulk);
        Add(queue, 2, 1_500, PeerPriority.Bulk);
        Assert.That(Next(queue), Is.EqualTo("1:First:988"));
        Add(queue, 3, 1_500, PeerPriority.Request);

        Assert.That(Drain(queue), Is.EqualTo("3:First:988 3:Last:512 1:Last:512 2:First:988 2:Last:512"));
    }

    [Test]
    public void The_less_urgent_gets_a_frame_after_a_megabyte_of_others()
    {
        SendQueue queue = new(64 * 1024, long.MaxValue, int.MaxValue);
        Add(queue, 1, 10, PeerPriority.Bulk);
        for (ulong i = 0; i < 40; i++)
            Add(queue, 100 + i, 60_000, PeerPriority.Raft);

        string[] order = Drain(queue).Split(' ');

        int bulkAt = Array.IndexOf(order, "1");
        Assert.That(bulkAt * 60_032, Is.InRange(SendQueue.FairnessBytes, SendQueue.FairnessBytes + 60_032));
    }

    [Test]
    public void Bytes_and_items_are_bounded_and_come_free_as_they_go()
    {
        SendQueue queue = new(FrameBytesMax, bytesMax: 5_000, countMax: 3);
        Add(queue, 1, 4_000, PeerPriority.Bulk);
        Assert.That(TryAdd(queue, 2, 1_001), Is.False);
        Assert.That(TryAdd(queue, 3, 1_000), Is.True);
        Assert.That((queue.Bytes, queue.Count), Is.EqualTo((5_000L, 2)));
        Assert.That(TryAdd(queue, 4, 0), Is.True);
        Assert.That(TryAdd(queue, 5, 0), Is.False);

        Drain(queue);

        Assert.That((queue.Bytes, queue.Count, queue.IsEmpty), Is.EqualTo((0L, 0, true)));
        Assert.That(TryAdd(queue, 6, 6_000), Is.True, "a message alone goes, whatever its size");
    }

    [Test]
    public void A_call_that_was_given_up_is_not_written_and_one_in_fragments_is_abandoned()
    {
        SendQueue queue = Queue();
        PeerCall small = new(null!, 0), large = new(null!, 0), unsent = new(null!, 0);
        queue.Add(Message(1, 2_000, PeerPriority.Request, large));
        Assert.That(Next(queue), Is.EqualTo("1:First:988"));
        queue.Add(Message(2, 10, PeerPriority.Request, small));
        queue.Add(Message(3, 2_000, PeerPriority.Request, unsent));
        queue.Add(Message(4, 10, PeerPriority.Request));

        small.IsGivenUp = large.IsGivenUp = unsent.IsGivenUp = true;

        Assert.That(Drain(queue), Is.EqualTo("4 1:Last, Abandoned:0"));
        Assert.That((queue.Bytes, queue.Count), Is.EqualTo((0L, 0)));
    }

    [Test]
    public void Clearing_drops_everything()
    {
        SendQueue queue = Queue();
        Add(queue, 1, 3_000, PeerPriority.Bulk);
        Next(queue);
        Add(queue, 2, 10, PeerPriority.Control);

        queue.Clear();

        Assert.That((queue.Bytes, queue.Count, Drain(queue)), Is.EqualTo((0L, 0, "")));
        Add(queue, 3, 2_000, PeerPriority.Bulk);
        Assert.That(Next(queue), Is.EqualTo("3:First:988"));
    }

    private static SendQueue Queue() => new(FrameBytesMax, 1 << 20, 100);

    private static OutgoingMessage Message(ulong correlation, int bytes, PeerPriority priority, PeerCall? call = null) =>
        new(FrameKind.Request, priority, 0, correlation, PeerBuffer.Copy(new byte[bytes]), call);

    private static void Add(SendQueue queue, ulong correlation, int bytes, PeerPriority priority) => queue.Add(Message(correlation, bytes, priority));

    private static bool TryAdd(SendQueue queue, ulong correlation, int bytes) => queue.TryAdd(Message(correlation, bytes, PeerPriority.Request));

    private static string Drain(SendQueue queue)
    {
        List<string> frames = [];
        while (Next(queue) is string frame)
            frames.Add(frame);
        return string.Join(' ', frames);
    }

    /// <summary>"correlation", of a fragment "correlation:flags:bytes"; null at the end.</summary>
    private static string? Next(SendQueue queue)
    {
        if (!queue.TryNext(out OutgoingFrame frame))
            return null;
        if (frame.IsLast)
            frame.Message.Payload!.Dispose();
        return frame.Flags == FrameFlags.Whole ? $"{frame.Message.Correlation}" : $"{frame.Message.Correlation}:{frame.Flags}:{frame.PayloadBytes}";
    }
}
