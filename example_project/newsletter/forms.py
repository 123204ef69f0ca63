"""The contact form."""

from django import forms


class ContactForm(forms.Form):
    """A visitor's message to the editors."""

    name = forms.CharField(max_length=100, label="Your name")
    email = forms.EmailField(label="Your e-mail address")
    message = forms.CharField(max_length=5000, widget=forms.Textarea(attrs={"rows": 8}), label="Your message")

    def clean_name(self):
        """Return the name on one line: it stands in the subject, and no header may hold a line break."""
        return " ".join(self.cleaned_data["name"].split())
