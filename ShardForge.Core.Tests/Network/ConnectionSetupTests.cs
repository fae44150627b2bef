using System.Collections.Concurrent;
using System.IO.Pipelines;
using System.Net;
using Microsoft.Extensions.Logging;
using NUnit.Framework;
using ShardForge.Network;

namespace ShardForge.Tests.Network;

[Parallelizable(ParallelScope.All)]
public sealed class ConnectionSetupTests
{
    [Test]
    public async Task A_peer_can_be_dialled_by_name_over_tcp()
    {
        await using PeerWorld world = new(TransportKind.Tcp);
        PeerNetwork client = world.Add("node-1"), server = world.Add("node-2");

        client.SetAddress("node-2", new DnsEndPoint("localhost", ((IPEndPoint)server.ListenEndPoint!).Port));

        Assert.That(await client.AskAsync("node-2", "x"u8.ToArray()), Is.EqualTo("x"u8.ToArray()));
    }

    [Test]
    public void A_name_cannot_be_bound_over_tcp() =>
        Assert.That(
            Assert.Throws<ConfigurationException>(() => new TcpTransport().Listen(new DnsEndPoint("localhost", 0)))!.Setting,
            Is.EqualTo("ListenEndPoint"));

    [Test]
    public void An_address_of_another_machine_cannot_be_bound() =>
        Assert.That(
            Assert.Throws<ConfigurationException>(() => new TcpTransport().Listen(new IPEndPoint(IPAddress.Parse("192.0.2.1"), 0)))!.Message,
            Does.Contain("192.0.2.1"));

    [Test]
    public async Task Sides_with_different_frame_sizes_use_the_smaller([Values(TransportKind.InMemory, TransportKind.Tcp)] TransportKind kind)
    {
        await using PeerWorld world = new(kind);
        PeerNetwork small = world.Add("node-1", with: options => options with { FrameBytesMax = 1_024 }), large = world.Add("node-2");
        small.SetAddress("node-2", large.ListenEndPoint!);
        large.SetAddress("node-1", small.ListenEndPoint!);
        byte[] payload = new byte[100_000];

        Assert.That(await small.AskAsync("node-2", payload), Is.EqualTo(payload));
        Assert.That(await large.AskAsync("node-1", payload), Is.EqualTo(payload));
    }

    [Test]
    public async Task A_listener_beyond_loopback_is_warned_about_and_one_on_loopback_is_not()
    {
        await using PeerWorld world = new(TransportKind.Tcp);
        Lines beyond = new(), loopback = new();

        world.Add("node-1", with: options => options with { ListenEndPoint = new IPEndPoint(IPAddress.Any, 0), Logger = beyond });
        world.Add("node-2", with: options => options with { Logger = loopback });

        Assert.That(beyond.Written, Has.One.StartsWith("Warning").And.Contains("neither encrypted nor authenticated"));
        Assert.That(loopback.Written, Has.None.StartsWith("Warning"));
    }

    [Test]
    public async Task Security_is_put_around_both_ends_before_the_first_byte()
    {
        await using PeerWorld world = new(TransportKind.Tcp);
        Masks security = new();
        (PeerNetwork client, PeerNetwork server) = await world.PairAsync(with: options => options with { Security = security });

        Assert.That(await client.AskAsync("node-2", "secret"u8.ToArray()), Is.EqualTo("secret"u8.ToArray()));
        Assert.That(security.Directions, Is.EquivalentTo(new[] { LinkDirection.Outgoing, LinkDirection.Incoming }));
        PeerNetwork plain = world.Add("node-3", with: options => options with { ConnectTimeout = TimeSpan.FromSeconds(2) });
        Assert.ThrowsAsync<PeerUnavailableException>(async () => await plain.ProbeAsync(server.ListenEndPoint!, PeerWorld.Patience));
    }

    [Test]
    public async Task A_node_without_a_listener_can_ask_others()
    {
        await using PeerWorld world = new(TransportKind.InMemory);
        PeerNetwork client = world.Add("node-1", with: options => options with { ListenEndPoint = null }), server = world.Add("node-2");

        client.SetAddress("node-2", server.ListenEndPoint!);

        Assert.That(client.ListenEndPoint, Is.Null);
        Assert.That(await client.AskAsync("node-2", "x"u8.ToArray()), Is.EqualTo("x"u8.ToArray()));
    }

    [Test]
    public async Task Networks_that_are_disposed_in_the_middle_of_everything_end([Values] TransportKind kind)
    {
        for (int round = 0; round < 10; round++)
        {
            await using PeerWorld world = new(kind, seed: round);
            PeerNetwork[] nodes = [world.Add("n0"), world.Add("n1"), world.Add("n2")];
            List<Task> calls = [];
            foreach (PeerNetwork node in nodes)
            {
                foreach (PeerNetwork other in nodes.Where(other => other != node))
                {
                    node.SetAddress(other.NodeId, other.ListenEndPoint!);
                    calls.Add(EndsAsync(node, other.NodeId));
                }
            }

            if (round % 2 == 0)
                nodes[round % 3].Kill();
            await Task.WhenAll(nodes.Select(node => node.DisposeAsync().AsTask())).WaitAsync(PeerWorld.Patience);
            await Task.WhenAll(calls).WaitAsync(PeerWorld.Patience);
        }

        static async Task EndsAsync(PeerNetwork node, string peer)
        {
            for (int call = 0; call < 1_000; call++)
            {
                try
                {
                    await node.AskAsync(peer, new byte[call]);
                }
                catch (PeerUnavailableException error) when (error.Failure is PeerFailure.Stopped or PeerFailure.NotConnected)
                {
                    return;
                }
                catch (PeerUnavailableException)
                {
                    // The other side went first.
                }
            }
        }
    }

    private sealed class Lines : ILogger
    {
        public ConcurrentQueue<string> Written { get; } = new();

        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            Written.Enqueue($"{logLevel}: {formatter(state, exception)}");
    }

    /// <summary>A stand-in for TLS: turns every bit over.</summary>
    private sealed class Masks : IConnectionSecurity
    {
        public ConcurrentQueue<LinkDirection> Directions { get; } = new();

        public ValueTask<ITransportConnection> SecureAsync(ITransportConnection connection, LinkDirection direction, CancellationToken cancellationToken)
        {
            Directions.Enqueue(direction);
            MaskedStream stream = new(connection.Input.AsStream(), connection.Output.AsStream());
            return new(new MaskedConnection(connection, PipeReader.Create(stream), PipeWriter.Create(stream)));
        }

        private sealed class MaskedConnection(ITransportConnection inner, PipeReader input, PipeWriter output) : ITransportConnection
        {
            public PipeReader Input => input;

            public PipeWriter Output => output;

            public EndPoint? Local => inner.Local;

            public EndPoint? Remote => inner.Remote;

            public void Abort() => inner.Abort();

            public ValueTask DisposeAsync() => inner.DisposeAsync();
        }

        private sealed class MaskedStream(Stream input, Stream output) : Stream
        {
            public override bool CanRead => true;

            public override bool CanWrite => true;

            public override bool CanSeek => false;

            public override long Length => throw new NotSupportedException();

            public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

            public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
            {
                int bytes = await input.ReadAsync(buffer, cancellationToken);
                Mask(buffer.Span[..bytes]);
                return bytes;
            }

            public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
            {
                byte[] masked = buffer.ToArray();
                Mask(masked);
                return output.WriteAsync(masked, cancellationToken);
            }

            public override Task FlushAsync(CancellationToken cancellationToken) => output.FlushAsync(cancellationToken);

            public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

            public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

            public override void Flush() => throw new NotSupportedException();

            public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

            public override void SetLength(long value) => throw new NotSupportedException();

            private static void Mask(Span<byte> bytes)
            {
                foreach (ref byte b in bytes)
                    b = (byte)~b;
            }
        }
    }
}
