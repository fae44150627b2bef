using NUnit.Framework;
using ShardForge.Metadata;

namespace ShardForge.Tests.Metadata;

[Parallelizable(ParallelScope.All)]
internal sealed class TimestampClientTests
{
    [Test]
    public async Task R02_who_comes_while_a_request_is_on_its_way_waits_for_the_next()
    {
        Sender sender = new();
        await using TimestampClient client = new(sender, static () => null);
        Task<Timestamp> first = client.NextAsync(default).AsTask();
        Task<Timestamp> second = client.NextAsync(default).AsTask();
        Task<Timestamp> third = client.NextAsync(default).AsTask();
        Assert.That(sender.Requests, Has.Count.EqualTo(1));
        Assert.That(sender.Requests[0].Count, Is.EqualTo(1));

        sender.Requests[0].Answer(new Timestamp(10));
        Assert.That(await first, Is.EqualTo(new Timestamp(10)));
        await MetadataNodes.WaitAsync(() => sender.Requests.Count == 2, "the second request");
        Assert.That(sender.Requests[1].Count, Is.EqualTo(2));
        Assert.That(second.IsCompleted, Is.False);
        sender.Requests[1].Answer(new Timestamp(20));
        Assert.That(await second, Is.EqualTo(new Timestamp(20)));
        Assert.That(await third, Is.EqualTo(new Timestamp(21)));
        Assert.That(client.LastKnown, Is.EqualTo(new Timestamp(21)));
    }

    [Test]
    public async Task Who_waits_when_a_request_fails_goes_into_a_new_one()
    {
        Sender sender = new();
        await using TimestampClient client = new(sender, static () => null);
        Task<Timestamp> first = client.NextAsync(default).AsTask();
        Task<Timestamp> second = client.NextAsync(default).AsTask();
        sender.Requests[0].Answer(null);
        await MetadataNodes.WaitAsync(() => sender.Requests.Count == 2, "the second request");
        Assert.That(sender.Requests[1].Count, Is.EqualTo(2));
        sender.Requests[1].Answer(new Timestamp(20));
        Assert.That(await first, Is.EqualTo(new Timestamp(20)));
        Assert.That(await second, Is.EqualTo(new Timestamp(21)));
    }

    [Test]
    public async Task A_cancelled_caller_is_gone_and_asks_for_nothing()
    {
        Sender sender = new();
        await using TimestampClient client = new(sender, static () => null);
        Task<Timestamp> first = client.NextAsync(default).AsTask();
        using CancellationTokenSource cancelled = new();
        Task<Timestamp> second = client.NextAsync(cancelled.Token).AsTask();
        Task<Timestamp> third = client.NextAsync(default).AsTask();
        await cancelled.CancelAsync();
        Assert.That(async () => await second, Throws.InstanceOf<OperationCanceledException>());
        sender.Requests[0].Answer(new Timestamp(10));
        await MetadataNodes.WaitAsync(() => sender.Requests.Count == 2, "the second request");
        Assert.That(sender.Requests[1].Count, Is.EqualTo(1));
        sender.Requests[1].Answer(new Timestamp(11));
        Assert.That(await first, Is.EqualTo(new Timestamp(10)));
        Assert.That(await third, Is.EqualTo(new Timestamp(11)));
    }

    [Test]
    public async Task An_oracle_on_this_node_answers_at_once()
    {
        Sender sender = new() { Local = new Timestamp(42) };
        await using TimestampClient client = new(sender, static () => null);
        ValueTask<Timestamp> next = client.NextAsync(default);
        Assert.That(next.IsCompletedSuccessfully);
        Assert.That(await next, Is.EqualTo(new Timestamp(42)));
        Assert.That(sender.Requests, Is.Empty);
    }

    [Test]
    public async Task R28_a_request_reports_the_oldest_open_snapshot_or_what_the_node_knows()
    {
        Sender sender = new();
        Timestamp? oldest = null;
        await using TimestampClient client = new(sender, () => oldest);
        Task<Timestamp> first = client.NextAsync(default).AsTask();
        Assert.That(sender.Requests[0].Oldest, Is.EqualTo(Timestamp.Zero));
        sender.Requests[0].Answer(new Timestamp(10));
        await first;
        Task<Timestamp> second = client.NextAsync(default).AsTask();
        await MetadataNodes.WaitAsync(() => sender.Requests.Count == 2, "the second request");
        Assert.That(sender.Requests[1].Oldest, Is.EqualTo(new Timestamp(10)));
        oldest = new Timestamp(7);
        sender.Requests[1].Answer(new Timestamp(12));
        await second;
        Task<Timestamp> third = client.NextAsync(default).AsTask();
        await MetadataNodes.WaitAsync(() => sender.Requests.Count == 3, "the third request");
        Assert.That(sender.Requests[2].Oldest, Is.EqualTo(new Timestamp(7)));
        sender.Requests[2].Answer(new Timestamp(13));
        await third;
    }

    [Test]
    public async Task Disposing_fails_who_waits()
    {
        Sender sender = new();
        TimestampClient client = new(sender, static () => null);
        Task<Timestamp> first = client.NextAsync(default).AsTask();
        Task<Timestamp> second = client.NextAsync(default).AsTask();
        await client.DisposeAsync();
        Assert.That(async () => await first, Throws.InstanceOf<ObjectDisposedException>());
        Assert.That(async () => await second, Throws.InstanceOf<ObjectDisposedException>());
        Assert.That(async () => await client.NextAsync(default), Throws.InstanceOf<ObjectDisposedException>());
    }

    private sealed class Sender : ITimestampSender
    {
        private readonly Lock _gate = new();
        private readonly List<Request> _requests = [];

        public Timestamp? Local { get; init; }

        public IReadOnlyList<Request> Requests
        {
            get
            {
                lock (_gate)
                    return [.. _requests];
            }
        }

        public bool TryNext(out Timestamp timestamp)
        {
            timestamp = Local ?? default;
            return Local is not null;
        }

        public async ValueTask<Timestamp?> RequestAsync(int count, Timestamp oldestOpenSnapshot, CancellationToken cancellationToken)
        {
            Request request = new(count, oldestOpenSnapshot);
            lock (_gate)
                _requests.Add(request);
            return await request.Answered.Task.WaitAsync(cancellationToken);
        }

        public Task PauseAsync(TimeSpan pause, CancellationToken cancellationToken) => Task.CompletedTask;
    }

    private sealed record Request(int Count, Timestamp Oldest)
    {
        public TaskCompletionSource<Timestamp?> Answered { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public void Answer(Timestamp? first) => Answered.SetResult(first);
    }
}
