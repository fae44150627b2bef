using System.Buffers;
using System.Diagnostics;
using System.IO.Pipelines;
using System.Text;

namespace ShardForge.Network;

/// <content>The reading loop: frames to calls and handlers.</content>
internal sealed partial class PeerConnection
{
    private readonly MessageAssembler _assembler;
    private ulong _expectedSequence;
    private long _runningBytes;
    private int _runningCount;

    private async Task<CloseCause> ReceiveAsync()
    {
        PipeReader input = _transport.Input;
        while (true)
        {
            ReadResult result = await input.ReadAsync(CancellationToken.None).ConfigureAwait(false);
            if (result.IsCanceled || IsClosed)
            {
                input.AdvanceTo(result.Buffer.End);
                return new CloseCause(RefusalCode.None, "It was ended.", CloseKind.Lost);
            }

            ReadOnlySequence<byte> buffer = result.Buffer;
            CloseCause? goodbye;
            try
            {
                goodbye = Process(ref buffer);
            }
            finally
            {
                input.AdvanceTo(buffer.Start, result.Buffer.End);
            }

            if (goodbye is not null)
                return goodbye;

            // Replies of handlers that were done at once, and pongs, wait for this: one write for all that one read brought.
            Flush();
            if (result.IsCompleted)
            {
                string text = buffer.IsEmpty ? "The other side closed it." : "The other side closed it inside a frame.";
                return new CloseCause(RefusalCode.None, text, CloseKind.Lost);
            }
        }
    }

    /// <returns>Why to end, if the other side said goodbye.</returns>
    private CloseCause? Process(ref ReadOnlySequence<byte> buffer)
    {
        long bytes = buffer.Length;
        int frames = 0;
        CloseCause? goodbye = null;
        while (goodbye is null
            && FrameFormat.TryRead(
                ref buffer, _handshake.ReceiveSeed, _handshake.Version, _options.FrameBytesMax, out FrameHeader header, out ReadOnlySequence<byte> payload))
        {
            if (header.Sequence < _expectedSequence)
            {
                _counters.DroppedDuplicate();
                continue;
            }

            if (header.Sequence > _expectedSequence)
                throw new PeerProtocolException(RefusalCode.SequenceGap, $"Frame {header.Sequence:N0} came where frame {_expectedSequence:N0} was expected.");
            _expectedSequence++;
            frames++;
            goodbye = Handle(header, payload);
        }

        if (frames > 0)
            Volatile.Write(ref _quietTicks, 0);
        _counters.Heard(frames, bytes - buffer.Length);
        return goodbye;
    }

    private CloseCause? Handle(in FrameHeader header, in ReadOnlySequence<byte> payload)
    {
        switch (header.Kind)
        {
            case FrameKind.Ping:
                Answer(new OutgoingMessage(FrameKind.Pong, PeerPriority.Control, 0, header.Correlation, Payload: null));
                return null;
            case FrameKind.Pong:
                long sent = (long)header.Correlation, now = Stopwatch.GetTimestamp();
                if (sent > 0 && sent <= now)
                    _counters.RoundTrip(Stopwatch.GetElapsedTime(sent, now));
                return null;
            case FrameKind.Goodbye:
                return new CloseCause((RefusalCode)header.Code, Encoding.UTF8.GetString(payload), CloseKind.ByPeer);
            default:
                break;
        }

        if ((header.Kind == FrameKind.Reply) != (_direction == LinkDirection.Outgoing))
            throw new PeerProtocolException(RefusalCode.UnknownFrame, $"A {header.Kind} frame does not belong into this direction.");
        if (!_assembler.TryComplete(header, payload, out PeerBuffer? message))
            return null;
        if (header.Kind == FrameKind.Reply)
            CompleteCall(header, message!);
        else
            Dispatch(header, message!);
        return null;
    }

    private void CompleteCall(in FrameHeader header, PeerBuffer answer)
    {
        PeerCall? call;
        bool hadLeft;
        lock (_gate)
        {
            hadLeft = _pending.Remove(header.Correlation, out call) && call.HasLeft;
        }

        if (call is null)
        {
            // Its sender gave up: timed out or cancelled.
            answer.Dispose();
            return;
        }

        if (!hadLeft)
        {
            call.Fail(new PeerUnavailableException(PeerFailure.LinkLost, mayHaveLeft: false, $"The {_name} answered a request that had not left."));
            answer.Dispose();
            throw new PeerProtocolException(RefusalCode.Corruption, $"A reply to request {header.Correlation}, which was not sent yet.");
        }

        switch ((ReplyStatus)header.Code)
        {
            case ReplyStatus.Answered:
                call.Complete(answer);
                return;
            case ReplyStatus.HandlerFailed:
                string text = Encoding.UTF8.GetString(answer.Span);
                answer.Dispose();
                string message = $"{Remote.NodeId} failed while it handled the request, which may have taken effect: {text}";
                call.Fail(new PeerUnavailableException(PeerFailure.HandlerFailed, mayHaveLeft: true, message));
                return;
            case ReplyStatus.NoHandler:
                answer.Dispose();
                call.Fail(new PeerUnavailableException(PeerFailure.NoHandler, mayHaveLeft: false, $"{Remote.NodeId} has no such service. Nothing was done."));
                return;
            case ReplyStatus.Overloaded:
                answer.Dispose();
                call.Fail(new OverloadedException($"{Remote.NodeId} has too many requests of this node to work on. Nothing was done."));
                return;
            default:
                answer.Dispose();
                call.Fail(new PeerUnavailableException(PeerFailure.LinkLost, mayHaveLeft: true, $"The {_name} brought a reply of unknown status {header.Code}."));
                throw new PeerProtocolException(RefusalCode.UnknownFrame, $"A reply of status {header.Code}.");
        }
    }

    private void Dispatch(in FrameHeader header, PeerBuffer message)
    {
        if (_handlers.Find(header.Code) is not IPeerRequestHandler handler)
        {
            message.Dispose();
            Answer(header, ReplyStatus.NoHandler, null);
            return;
        }

        if (_runningCount >= _options.Limits.PeerRequestsMax || Volatile.Read(ref _runningBytes) > _options.Limits.PeerQueueBytesMax)
        {
            message.Dispose();
            Answer(header, ReplyStatus.Overloaded, null);
            return;
        }

        ValueTask<PeerReply> task;
        try
        {
            PeerRequestKind kind = header.Kind == FrameKind.Request ? PeerRequestKind.Request : PeerRequestKind.OneWay;
            task = handler.HandleAsync(new PeerRequest(Remote.NodeId, (PeerService)header.Code, message.Memory, header.Priority, kind, Remote), _ended.Token);
        }
        catch (Exception error)
        {
            // A handler is a stranger's code: what it throws is an answer, and the link goes on.
            message.Dispose();
            AnswerFailed(header, error);
            return;
        }

        if (task.IsCompletedSuccessfully)
        {
            PeerReply reply = task.Result;
            message.Dispose();
            AnswerReply(header, reply);
            return;
        }

        Interlocked.Increment(ref _runningCount);
        Interlocked.Add(ref _runningBytes, message.Length);
        _handlers.Running.Enter();

        // Not awaited here: it never fails, and PeerHandlers.Running counts it.
        _ = FinishAsync(header, message, task);
    }

    private async Task FinishAsync(FrameHeader header, PeerBuffer message, ValueTask<PeerReply> task)
    {
        int bytes = message.Length;
        try
        {
            PeerReply reply = await task.ConfigureAwait(false);
            message.Dispose();
            AnswerReply(header, reply);
        }
        catch (Exception error)
        {
            message.Dispose();
            AnswerFailed(header, error);
        }
        finally
        {
            Interlocked.Decrement(ref _runningCount);
            Interlocked.Add(ref _runningBytes, -bytes);
            _handlers.Running.Exit();
        }

        Flush();
    }

    private void AnswerReply(in FrameHeader request, PeerReply reply)
    {
        if (reply.Payload is PeerBuffer payload && payload.Length > _options.MessageBytesMax)
        {
            string text = $"The reply of {payload.Length:N0} bytes is over the limit of {_options.MessageBytesMax:N0}.";
            payload.Dispose();
            Answer(request, ReplyStatus.HandlerFailed, TextBuffer(text));
            return;
        }

        Answer(request, ReplyStatus.Answered, reply.Payload);
    }

    private void AnswerFailed(in FrameHeader request, Exception error)
    {
        if (!IsClosed)
            NetworkLog.HandlerFailed(_options.Logger, (PeerService)request.Code, Remote.NodeId, error);
        Answer(request, ReplyStatus.HandlerFailed, TextBuffer(error.Message));
    }

    private void Answer(in FrameHeader request, ReplyStatus status, PeerBuffer? payload)
    {
        if (request.Kind == FrameKind.Request)
            Answer(new OutgoingMessage(FrameKind.Reply, request.Priority, (ushort)status, request.Correlation, payload));
        else
            payload?.Dispose();
    }

    private void Answer(in OutgoingMessage message)
    {
        if (TryAdd(message))
            return;
        message.Payload?.Dispose();

        // A reply cannot be dropped while its link lives: its sender would wait for nothing. So a peer that asks and does not read loses the link.
        Close(new CloseCause(RefusalCode.NotReading, "The queue of answers is full: they are not read.", CloseKind.Lost));
    }
}
