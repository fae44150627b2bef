using System.Collections.Concurrent;
using ShardForge.Consensus;
using ShardForge.Network;

namespace ShardForge.Tests.Consensus;

/// <summary>Links between nodes of one process, each way of each of which can be cut, left hanging, or watched.</summary>
internal sealed class RaftLinkHub
{
    private readonly ConcurrentDictionary<string, IRaftLinkHandler> _handlers = new();
    private readonly ConcurrentDictionary<(string From, string To), LinkFault> _faults = new();

    /// <summary>Called with sender, receiver and message, before it is delivered; what it returns is awaited.</summary>
    public Func<string, string, ReadOnlyMemory<byte>, ValueTask>? Before { get; set; }

    /// <summary>Called with sender, receiver, message and answer, before the answer goes back; what it returns is the answer.</summary>
    public Func<string, string, ReadOnlyMemory<byte>, PeerBuffer, ValueTask<PeerBuffer>>? After { get; set; }

    public IRaftLink CreateLink(string nodeId) => new Link(this, nodeId);

    /// <summary>Nobody answers for a node from here on.</summary>
    public void Remove(string nodeId) => _handlers.TryRemove(nodeId, out _);

    public void Set(string from, string to, LinkFault fault) => _faults[(from, to)] = fault;

    public void Cut(string left, string right)
    {
        Set(left, right, LinkFault.Broken);
        Set(right, left, LinkFault.Broken);
    }

    public void Heal() => _faults.Clear();

    /// <summary>Delivers a message as if a node had sent it.</summary>
    public async ValueTask<PeerBuffer> DeliverAsync(string from, string to, PeerBuffer message)
    {
        using (message)
        {
            IRaftLinkHandler handler = _handlers.GetValueOrDefault(to)
                ?? throw new PeerUnavailableException(PeerFailure.NotConnected, mayHaveLeft: false, $"{to} is not there.");
            return await handler.HandleAsync(from, message.Memory, CancellationToken.None);
        }
    }

    private LinkFault FaultOf(string from, string to) => _faults.GetValueOrDefault((from, to));

    private sealed class Link(RaftLinkHub hub, string nodeId) : IRaftLink
    {
        public void Register(IRaftLinkHandler handler) => hub._handlers[nodeId] = handler;

        public async ValueTask<PeerBuffer> RequestAsync(string target, PeerBuffer message, bool bulk, TimeSpan limit, CancellationToken cancellationToken)
        {
            // As a real link: the wait is bounded, the request is not taken back.
            Task<PeerBuffer> answer = ExchangeAsync(target, message);
            try
            {
                return await answer.WaitAsync(limit, cancellationToken);
            }
            catch (TimeoutException)
            {
                throw new PeerUnavailableException(PeerFailure.TimedOut, mayHaveLeft: true, $"{target} did not answer {nodeId} in {limit}.");
            }
        }

        private async Task<PeerBuffer> ExchangeAsync(string target, PeerBuffer message)
        {
            await Task.Yield();
            using PeerBuffer sent = message;
            await MeetAsync(hub.FaultOf(nodeId, target), target);
            if (hub.Before is { } before)
                await before(nodeId, target, sent.Memory);
            if (!hub._handlers.TryGetValue(nodeId, out _) || !hub._handlers.TryGetValue(target, out IRaftLinkHandler? handler))
                throw new PeerUnavailableException(PeerFailure.NotConnected, mayHaveLeft: false, $"{target} is not there.");
            PeerBuffer answer = await handler.HandleAsync(nodeId, sent.Memory, CancellationToken.None);
            if (hub.After is { } after)
                answer = await after(nodeId, target, sent.Memory, answer);
            await MeetAsync(hub.FaultOf(target, nodeId), target);
            return answer;
        }

        private async Task MeetAsync(LinkFault fault, string target)
        {
            if (fault == LinkFault.Hanging)
                await Task.Delay(Timeout.Infinite);
            if (fault == LinkFault.Broken)
                throw new PeerUnavailableException(PeerFailure.NotConnected, mayHaveLeft: false, $"No link between {nodeId} and {target}.");
        }
    }
}

internal enum LinkFault
{
    None,

    /// <summary>Fails at once.</summary>
    Broken,

    /// <summary>Takes everything, delivers nothing.</summary>
    Hanging,
}
